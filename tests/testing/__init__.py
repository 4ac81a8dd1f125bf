"""Tests of prunebench.testing, the conformance kit."""
