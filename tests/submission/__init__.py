"""Tests of prunebench.submission."""
