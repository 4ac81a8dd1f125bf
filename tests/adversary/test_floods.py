"""What is printed or said without end keeps nobody from seeing that the time is over."""

import os
import subprocess
import sys

from prunebench.runner.processes.messages import AT_ONCE, Lines
from prunebench.runner.processes.standard_error import Errors


def test_a_flood_is_read_in_parts() -> None:
    read, write = os.pipe()
    with subprocess.Popen(["yes"], stdout=write) as flood:
        os.close(write)
        lines = Lines(read)
        assert len(list(lines.read())) <= AT_ONCE  # which comes to an end
        assert not lines.ended
        errors = Errors(os.dup(read))
        errors.read()
        flood.kill()
    errors.close()
    lines.close()


def test_what_was_said_before_the_end_is_all_read() -> None:
    read, write = os.pipe()
    code = "print('x\\n' * 30_000, end='')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=write):
        os.close(write)
        lines = Lines(read)
        found = 0
        while not lines.ended:
            found += len(list(lines.read()))
    assert found == 30_000
    lines.close()
