"""Engines: who runs the cells of a sweep. Each is a plugin, of the entry-point group ``prunebench.engines``.

``interface`` says what an engine is and what it is given. ``local`` is workers on this machine, ``ray`` workers on a
cluster, ``slurm`` an array job. ``claimed`` is what every worker does with a cell, ``worker`` the program of one that
another process starts, ``program`` how that is done, and ``needs`` what a cell will need.
"""
