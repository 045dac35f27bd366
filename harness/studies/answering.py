"""When a study or a comparison that goes on says what it has come to."""

import time

ANSWER_S = 60.0


class Tenths:
    """Every tenth of a number but the last, which its end is, and none within ANSWER_S of the one before."""

    def __init__(self, number: int) -> None:
        self._number, self._last, self._last_s = number, 0, time.monotonic()

    def is_reached(self, done: int) -> bool:
        """Whether to answer now, when so many are done."""
        tenth = 10 * done // self._number
        if not self._last < tenth < 10 or time.monotonic() - self._last_s < ANSWER_S:
            return False
        self._last, self._last_s = tenth, time.monotonic()
        return True
