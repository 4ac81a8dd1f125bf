"""Two results folders compared: the regression gate."""
