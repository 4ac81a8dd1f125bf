"""Processes: a fresh one for each stage of each cell, forked from a template that has imported everything.

``template`` is the program that is forked, ``stages`` what its children do, ``messages`` what they say and how much of
it is listened to, ``parent`` the other side, ``linux`` what the system does for it. ``prunebench.runner.isolated`` puts
them to work.
"""
