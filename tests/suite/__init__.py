"""Tests of prunebench.suite."""
