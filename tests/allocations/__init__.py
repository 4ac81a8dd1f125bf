"""Tests of prunebench.allocations."""
