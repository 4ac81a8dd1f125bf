"""Tests of prunebench.tinyworld."""
