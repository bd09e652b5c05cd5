"""The beanstalkd transport beside greenstalk alone: put, and reserve with delete."""

from __future__ import annotations

import json

import greenstalk
from harness import BODY, Row, medians, rates
from rivals import Rival

import kombu_core
from kombu_core.testing.brokers import BeanstalkdServer

PUBLISHED = 5_000
BATCHED = 20_000
CONSUMED = 20_000


def rows(rounds: int) -> list[Row]:
    """Measure publish, batched publish and consume, without a binlog."""
    with BeanstalkdServer(binlog=False) as server:
        ours = Rival(kombu_core, server.url, "bench")
        bare = _Bare(server.port)
        published, batched, consumed = [], [], []
        for _ in range(rounds):
            published.append(rates(PUBLISHED, 1, ours.publish, bare.publish))
            batched.append(rates(BATCHED, 1, ours.publish_batch, bare.publish))
            ours.purge()
            bare.consume(PUBLISHED + BATCHED)
            ours.fill(CONSUMED)
            bare.publish(CONSUMED)
            consumed.append(rates(CONSUMED, 1, ours.consume, bare.consume))
        ours.close()
        bare.close()
    lines = {
        "beanstalk publish, each confirmed": medians(published),
        "beanstalk publish in batches": medians(batched),
        "beanstalk consume + ack, prefetch 100": medians(consumed),
    }
    return [Row(name, mine, raw=raw) for name, (mine, raw) in lines.items()]


class _Bare:
    """greenstalk alone: one command after the other."""

    def __init__(self, port: int) -> None:
        self._client = greenstalk.Client(("127.0.0.1", port), use="bare", watch="bare")

    def publish(self, count: int) -> None:
        for _ in range(count):
            self._client.put(json.dumps(BODY))

    def consume(self, count: int) -> None:
        for _ in range(count):
            job = self._client.reserve()
            json.loads(job.body)
            self._client.delete(job)

    def close(self) -> None:
        self._client.close()
