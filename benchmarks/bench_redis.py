"""The Redis transport beside kombu's, and beside a script that claims and acks in batches."""

from __future__ import annotations

import json

import kombu
import redis
from harness import BODY, Row, medians, rates
from rivals import Rival
from waiting import idle_seconds, wake_up

import kombu_core
from kombu_core.testing.brokers import RedisServer

PUBLISHED = 3_000
BATCHED = 20_000
CONSUMED = 20_000
#: kombu needs longer for less.
BATCHED_BY_KOMBU = 4_000
CONSUMED_BY_KOMBU = 2_000

#: Takes what is asked for out of a list into a hash of claims, and gives it back.
CLAIM = """
local got = redis.call('LPOP', KEYS[1], ARGV[1])
if not got then return {} end
local pairs = {}
for i, body in ipairs(got) do pairs[2 * i - 1] = i; pairs[2 * i] = body end
redis.call('HSET', KEYS[2], unpack(pairs))
return got
"""


def rows(rounds: int) -> list[Row]:
    """Measure publish, batched publish, consume, and how fast an idle consumer wakes."""
    with RedisServer() as server:
        ours = Rival(kombu_core, server.url, "bench")
        theirs = Rival(kombu, server.url, "kombu-bench")
        ours_by_name = Rival(kombu_core, server.url, "named", by_name=True)
        theirs_by_name = Rival(kombu, server.url, "kombu-named", by_name=True)
        bare = _Bare(server.url)
        published, batched, named, consumed = [], [], [], []
        for _ in range(rounds):
            published.append(rates(PUBLISHED, 1, ours.publish, theirs.publish, bare.publish))
            batched.append(
                [
                    *rates(BATCHED, 1, ours.publish_batch),
                    *rates(BATCHED_BY_KOMBU, 1, theirs.publish_batch),
                    *rates(BATCHED, 1, bare.publish_batch),
                ]
            )
            named.append(
                rates(BATCHED, 1, ours_by_name.publish_batch, theirs_by_name.publish_batch)
            )
            for rival in (ours, theirs, ours_by_name, theirs_by_name, bare):
                rival.purge()
            ours.fill(CONSUMED)
            bare.publish_batch(CONSUMED)
            theirs.fill(CONSUMED_BY_KOMBU)
            consumed.append(
                [
                    *rates(CONSUMED, 1, ours.consume),
                    *rates(CONSUMED_BY_KOMBU, 1, theirs.consume),
                    *rates(CONSUMED, 1, bare.consume),
                ]
            )
        wake = wake_up(server.url)
        idle = idle_seconds(server.url)
        for rival in (ours, theirs, ours_by_name, theirs_by_name):
            rival.close()
    return [
        Row.of("redis publish, each confirmed", medians(published), goal=1.3),
        Row.of("redis publish in batches, direct exchange", medians(batched), goal=1.5),
        Row.of("redis publish in batches, default exchange", medians(named), goal=1.5),
        Row.of("redis consume + ack, prefetch 100", medians(consumed), goal=15.0),
        Row("redis wake-up of an idle consumer (median)", wake, unit="s"),
        Row("redis processor time of 5 s idle", idle, unit="s"),
    ]


class _Bare:
    """redis-py alone: what the store and the driver allow."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._claim = self._client.register_script(CLAIM)

    def publish(self, count: int) -> None:
        for _ in range(count):
            self._client.lpush("bare", json.dumps(BODY))

    def publish_batch(self, count: int) -> None:
        for start in range(0, count, 500):
            with self._client.pipeline(transaction=False) as pipe:
                for _ in range(min(500, count - start)):
                    pipe.lpush("bare", json.dumps(BODY))
                pipe.execute()

    def consume(self, count: int) -> None:
        left = count
        while left:
            got = self._claim(keys=["bare", "claims"], args=[100])
            for body in got:
                json.loads(body)
            self._client.delete("claims")
            left -= len(got)

    def purge(self) -> None:
        self._client.delete("bare", "claims")
