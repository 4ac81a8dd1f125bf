"""Tests of prunebench.cli."""
