"""Tests of the built-in methods, in plugins/prunebench_plugins."""
