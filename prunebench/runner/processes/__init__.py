"""Processes: a fresh one for each stage of each cell, forked from a template that has imported everything.

``template`` is the program that is forked, ``stages`` what its children do, ``teller`` how they speak, ``messages``
what they say and how much of it is listened to. On the other side ``parent`` is a template, ``child`` a process that
runs a stage, ``standard_error`` what they print. ``linux`` is what the system does for it.
``prunebench.runner.isolated`` puts them to work.
"""
