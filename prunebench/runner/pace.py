"""The time that a loop has left, by the rate of its steps."""


class Pace:
    """How fast a loop goes.

    Args:
        label: of the loop.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._first: tuple[int, float] | None = None
        self._done, self._total, self._last = 0, 0, 0.0

    def take(self, done: int, total: int, now: float) -> None:
        """Note how many steps are done, and when."""
        if self._first is None or done < self._done:
            self._first = (done, now)
        self._done, self._total, self._last = done, total, now

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self._done >= self._total

    def left(self, now: float) -> float | None:
        """Seconds left at the rate so far; None before a step has been done."""
        if self._first is None or self._done <= self._first[0]:
            return None
        seconds = (self._last - self._first[1]) / (self._done - self._first[0])
        return max((self._total - self._done) * seconds - (now - self._last), 0.0)
