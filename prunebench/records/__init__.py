"""Records: one JSON file per cell, the arrays beside it, and folders of them."""
