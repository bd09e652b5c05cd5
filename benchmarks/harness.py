"""How the benchmarks measure and print: medians of rounds that alternate between the rivals.

A figure counts only beside another one of the same run, so a row holds what this library does, what
kombu does, and what the bare store allows.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

#: A message of 100 bytes as JSON, like those of real programs: some text, numbers, a list.
BODY = {
    "id": "7c9e6679-7425-40de",
    "task": "media.resize",
    "args": ["lolcat1.avi", 1301013, True],
    "eta": None,
    "n": 17,
}

#: Does something with a number of messages; may return the seconds that count.
Round = Callable[[int], float | None]


class Row(NamedTuple):
    """One line of the table: rates in units per second, or seconds where lower is better."""

    name: str
    ours: float
    kombu: float | None = None
    raw: float | None = None
    #: What the ratio of `ours` to `kombu` is to be at least (at most, for seconds).
    goal: float | None = None
    unit: str = "msg/s"

    @classmethod
    def of(
        cls, name: str, figures: Sequence[float], *, goal: float | None = None, unit: str = "msg/s"
    ) -> Row:
        """Make one of our figure, kombu's, and the bare store's if there is one."""
        ours, kombu, *raw = figures
        return cls(name, ours, kombu, raw[0] if raw else None, goal, unit)

    @property
    def ratio(self) -> float | None:
        """How many times kombu's figure ours is; None if there is none."""
        return self.ours / self.kombu if self.kombu else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal was met; None without one."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio <= self.goal if self.unit == "s" else self.ratio >= self.goal


def rates(count: int, rounds: int, *rivals: Round) -> list[float]:
    """Let the rivals run in turn, and return the median rate of each."""
    taken: list[list[float]] = [[] for _ in rivals]
    for _ in range(rounds):
        for number, run in enumerate(rivals):
            gc.collect()
            started = time.perf_counter()
            seconds = run(count)
            taken[number].append(seconds if seconds is not None else time.perf_counter() - started)
    return [count / statistics.median(one) for one in taken]


def medians(figures: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*figures, strict=True)]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | kombu_core | kombu 5.7 | ratio | goal | bare |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        mark = {True: " ✓", False: " ✗", None: ""}[row.is_met]
        sign = "≤" if row.unit == "s" else "≥"
        goal = "" if row.goal is None else f"{sign} {row.goal:.2f}{mark}"
        cells = [
            row.name,
            _figure(row.ours, row.unit),
            _figure(row.kombu, row.unit),
            ratio,
            goal,
            _figure(row.raw, row.unit),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "s":
        return f"{value * 1000:.1f} ms"
    if not unit:
        return f"{value:,.0f}"
    return f"{value:,.0f}/s"
