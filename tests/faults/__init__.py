"""What befalls a sweep: crashes, hangs, kills, two runners; the long form is `python -m tests.faults.campaign`."""
