"""Tests of the commands in benchmarks/."""
