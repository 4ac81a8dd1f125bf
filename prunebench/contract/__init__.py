"""What a method must hold to, and the checks that see whether it did."""
