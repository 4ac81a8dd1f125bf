"""Tests of prunebench.scaffold."""
