"""Tests of prunebench.pruning, the toolkit for methods."""
