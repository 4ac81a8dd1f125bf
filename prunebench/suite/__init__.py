"""The suite: what a file asks for, read, checked, and planned as cells."""
