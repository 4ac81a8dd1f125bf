"""The time that a loop has left, by the rate of its steps."""

from collections.abc import Sequence

MARKS = 256  # more are thinned
START = 0.25  # of the steps so far, the share that is passed over: it holds what is set up once, and a speed long gone
TRUST = 0.25  # of all steps, the share after which this loop's own rate counts as much as that of loops before it


class Pace:
    """How fast a loop goes.

    Args:
        label: of the loop.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._marks: list[tuple[int, float]] = []
        self._done, self._total, self._last = 0, 0, 0.0

    def take(self, done: int, total: int, now: float) -> None:
        """Note how many steps are done, and when."""
        if not self._marks or done < self._done:
            self._marks = []
        self._marks.append((done, now))
        if len(self._marks) > MARKS:
            self._marks = [self._marks[0], *self._marks[2::2]]
        self._done, self._total, self._last = done, total, now

    @property
    def first(self) -> int:
        """The steps that were done before it began, as of a cell that goes on from a saved state."""
        return self._marks[0][0] if self._marks else 0

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self._done >= self._total

    def rate(self, *, whole: bool = False) -> float | None:
        """Seconds a step, the first quarter of those that were seen passed over; None before one has been done.

        Args:
            whole: pass over none.
        """
        if self._done <= self.first:
            return None
        start = self.first if whole else self.first + START * (self._done - self.first)
        done, since = _last_before(self._marks, start)
        return (self._last - since) / (self._done - done)

    def left(self, now: float, usual: float | None = None) -> float | None:
        """Seconds left; None before a step has been done.

        Args:
            now: by the clock of ``take``.
            usual: seconds a step of loops like this one, which count for the more the less of it is done.
        """
        if (seconds := self.rate()) is None:
            return None
        if usual is not None:
            seen = (self._done - self.first) / self._total
            own = seen / (seen + TRUST)
            seconds = own * seconds + (1 - own) * usual
        return max((self._total - self._done) * seconds - (now - self._last), 0.0)


def _last_before(marks: Sequence[tuple[int, float]], steps: float) -> tuple[int, float]:
    """The last mark with at most so many steps: with one step or two there are, the first or the second."""
    return max(mark for mark in marks if mark[0] <= max(steps, marks[0][0]))
