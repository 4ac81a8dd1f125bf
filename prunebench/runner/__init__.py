"""Sweeps: cells in, records out, each cell in a process of its own, resumable at any moment."""
