"""Tests of prunebench.records."""
