"""Tests of the documentation and the README."""
