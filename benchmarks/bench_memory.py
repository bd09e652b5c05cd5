"""The in-memory transport beside kombu's, and beside a deque that is filled with JSON."""

from __future__ import annotations

import json
from collections import deque

import kombu
from harness import BODY, Row, medians, rates
from rivals import Rival

import kombu_core

COUNT = 20_000


def rows(rounds: int) -> list[Row]:
    """Measure publish and consume."""
    ours = Rival(kombu_core, "memory://bench", "bench")
    theirs = Rival(kombu, "memory://", "bench")
    bare: deque[str] = deque()

    def bare_publish(count: int) -> None:
        for _ in range(count):
            bare.append(json.dumps(BODY))

    def bare_consume(count: int) -> None:
        for _ in range(count):
            json.loads(bare.popleft())

    published: list[list[float]] = []
    consumed: list[list[float]] = []
    for _ in range(rounds):
        published.append(rates(COUNT, 1, ours.publish, theirs.publish, bare_publish))
        consumed.append(rates(COUNT, 1, ours.consume, theirs.consume, bare_consume))
    ours.close()
    theirs.close()
    return [
        Row.of("memory publish", medians(published), goal=2.0),
        Row.of("memory consume + ack, prefetch 100", medians(consumed), goal=2.5),
    ]
