"""Tests of prunebench.registry."""
