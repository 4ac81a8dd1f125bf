"""Tests of prunebench.contract."""
