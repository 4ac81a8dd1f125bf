"""How glibc's malloc in a cell's processes keeps what was freed: as in a process that has run for long.

glibc gives freed memory back to the system above thresholds that grow, up to 32 and 64 MiB, as a process frees larger
pieces. A process for each stage starts with small ones, and fetches pages anew in every forward pass. Other systems
do not read these variables.
"""

import os

LARGEST = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}  # bytes


def keeping() -> dict[str, str]:
    """Environment variables for the processes of cells: none where the user has set one of them."""
    return {} if any(name in os.environ for name in LARGEST) else LARGEST
