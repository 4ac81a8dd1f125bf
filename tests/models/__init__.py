"""Tests of prunebench.models."""
