"""The long comparison: `make differential PROGRAMS=20000 [SEED=N]`.

Starts a RabbitMQ and a Redis of its own, and runs programs on them and on the memory transport in
several processes. Prints each difference, minimized, and a summary; fails if there was any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from kombu_core.testing.brokers import BROKERS, RabbitMQServer, open_server
from tests.integration.differential.lockstep import Difference
from tests.integration.differential.running import open_sides, run_programs

_MEMORY: Final = Path("/dev/shm")
#: Programs of one seed: what has to be run again to see a difference again.
_BLOCK: Final = 100


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process does."""

    rabbitmq: str
    redis: str
    #: Seeds and how many programs of each.
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Report:
    ran: int
    slow: int
    differences: tuple[str, ...]


def _work(share: _Share) -> _Report:
    lockstep = open_sides(share.rabbitmq, share.redis)
    differences: list[str] = []
    began = monotonic()
    for place, (seed, count) in enumerate(share.blocks, 1):
        try:
            run_programs(lockstep, seed, count)
        except Difference as difference:
            differences.append(str(difference))
            sys.stdout.write(f"\n{difference}\n")
        if place % 5 == 0 or place == len(share.blocks):
            speed = lockstep.ran / (monotonic() - began)
            sys.stdout.write(
                f"{place} of {len(share.blocks)} blocks, {lockstep.ran} programs, "
                f"{speed:.1f} a second, {len(differences)} differences\n"
            )
        sys.stdout.flush()
    lockstep.close()
    return _Report(lockstep.ran, lockstep.slow, tuple(differences))


def _split(programs: int, seed: int, workers: int) -> list[tuple[tuple[int, int], ...]]:
    blocks = [
        (seed + place, min(_BLOCK, programs - start))
        for place, start in enumerate(range(0, programs, _BLOCK))
    ]
    return [tuple(blocks[worker::workers]) for worker in range(workers)]


def main() -> int:
    """Return 1 if there was a difference."""
    parser = argparse.ArgumentParser(prog="long_run")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**8))
    parser.add_argument("--workers", type=int, default=3)
    arguments = parser.parse_args()
    sys.stdout.write(f"{arguments.programs} programs, seed {arguments.seed}\n")
    sys.stdout.flush()
    began = monotonic()
    if _MEMORY.is_dir():
        tempfile.tempdir = str(_MEMORY)  # Nothing that the brokers write outlives them.
    context = multiprocessing.get_context("spawn")
    # It says a lot about each channel that is closed with an error.
    quiet = {"log.console.level": "critical"}
    with RabbitMQServer(config=quiet) as rabbitmq, open_server(BROKERS["redis"]) as redis:
        shares = [
            _Share(rabbitmq.url, redis.url, blocks)
            for blocks in _split(arguments.programs, arguments.seed, arguments.workers)
        ]
        with ProcessPoolExecutor(len(shares), context) as pool:
            reports = list(pool.map(_work, shares))
    differences = sum(len(report.differences) for report in reports)
    sys.stdout.write(
        f"{sum(report.ran for report in reports)} programs in {monotonic() - began:.0f} s, "
        f"seed {arguments.seed}: {differences} differences "
        f"({sum(report.slow for report in reports)} too slow to be judged)\n"
    )
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
