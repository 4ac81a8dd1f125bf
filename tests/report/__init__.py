"""Tests of prunebench.report."""
