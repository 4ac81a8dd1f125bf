"""Tests of prunebench.runner."""
