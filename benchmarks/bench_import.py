"""How long an import takes, each in a fresh interpreter, both from compiled bytecode."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from harness import Row

NAMES = "Connection, Exchange, Queue, Consumer, Producer"


def rows(rounds: int) -> list[Row]:
    """Measure the package alone, and with the names that a program needs."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def seconds(statement: str) -> float:
            program = (
                f"import time; t=time.perf_counter(); {statement}; print(time.perf_counter()-t)"
            )
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            return float(done.stdout)

        def row(name: str, ours: str, theirs: str, goal: float | None) -> Row:
            seconds(ours), seconds(theirs)  # compile
            pairs = [(seconds(ours), seconds(theirs)) for _ in range(2 * rounds + 1)]
            medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
            return Row.of(name, medians, goal=goal, unit="s")

        return [
            row("import of the package", "import kombu_core", "import kombu", 1 / 3),
            row(
                "import of all its main names",
                f"from kombu_core import {NAMES}",
                f"from kombu import {NAMES}",
                None,
            ),
        ]
