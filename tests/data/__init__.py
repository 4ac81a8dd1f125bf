"""Tests of prunebench.data."""
