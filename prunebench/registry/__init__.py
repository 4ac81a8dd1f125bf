"""Plugins: entry points and files, the classes they name, their options, and the manager of a cell."""
