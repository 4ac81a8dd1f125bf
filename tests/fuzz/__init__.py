"""Mutated suites, records and arrays: ``python -m tests.fuzz --examples 10000``."""
