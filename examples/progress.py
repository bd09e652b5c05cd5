"""A progress bar for the terminal; elsewhere, one line at the end."""

from __future__ import annotations

import sys
import time

WIDTH = 30
#: Seconds between two pictures.
INTERVAL = 0.05


class Progress:
    """Counts up to a total, and shows how far it is and how many there were a second."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began = self._shown = time.monotonic()
        self._is_terminal = sys.stdout.isatty()

    def show(self, done: int) -> None:
        """Say how many are done by now."""
        now = time.monotonic()
        is_last = done >= self._total
        if not is_last and (not self._is_terminal or now - self._shown < INTERVAL):
            return
        self._shown = now
        bar = "#" * (WIDTH * done // self._total)
        rate = done / max(now - self._began, 1e-9)
        line = f"{self._what:10} [{bar:{WIDTH}}] {done:,} of {self._total:,}, {rate:,.0f}/s"
        start = "\r" if self._is_terminal else ""
        print(f"{start}{line}", end="\n" if is_last else "", flush=True)
