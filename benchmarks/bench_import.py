"""How long an import takes, each in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys

from harness import Row


def rows(rounds: int) -> list[Row]:
    """Measure `import kombu_core` beside `import kombu` with its usual names."""
    ours, theirs = [], []
    for _ in range(2 * rounds + 1):
        ours.append(_seconds("from kombu_core import Connection, Exchange, Queue"))
        theirs.append(_seconds("from kombu import Connection, Exchange, Queue"))
    return [
        Row(
            "import of Connection, Exchange, Queue",
            statistics.median(ours),
            statistics.median(theirs),
            goal=1 / 3,
            unit="s",
        )
    ]


def _seconds(statement: str) -> float:
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
