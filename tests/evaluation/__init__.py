"""Tests of prunebench.evaluation."""
