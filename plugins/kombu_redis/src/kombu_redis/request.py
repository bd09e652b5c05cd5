"""A batch in the form that the commit script takes it, and what its reply means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kombu_core.virtual.envelope import decode, encode
from kombu_core.virtual.store import Batch, Claim, Claimed, CommitResult, Conflict
from kombu_redis.connections import Word
from kombu_redis.layout import Layout, priority_of


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, none of a duration lost."""
    return math.ceil(seconds * 1000)


class CommitRequest:
    """A batch in the form that the script takes it, and the way back from its positions."""

    def __init__(self, layout: Layout, batch: Batch) -> None:
        self._layout = layout
        self._session = batch.session
        self._positions: dict[str, int] = {}
        self.keys: list[str] = [
            layout.versions,
            layout.seq,
            layout.sessions,
            layout.lapsed,
            layout.held(batch.session),
        ]
        self.args: list[Word] = [batch.session, len(batch.expect)]
        for key, version in batch.expect:
            self.args += (key, version)
        self._settled: list[Claim] = []
        #: Positions in the batch's puts, in the order that the script stores them.
        self._order: list[int] = []
        self._build(batch)

    def _queue(self, queue: str) -> int:
        position = self._positions.get(queue)
        if position is None:
            position = self._positions[queue] = len(self._positions)
            self.keys += self._layout.claims(self._session, queue)
        return position

    def _build(self, batch: Batch) -> None:
        bodies: dict[int, int] = {}
        encoded: list[bytes] = []
        groups: dict[str, list[int]] = {}
        for position, put in enumerate(batch.puts):
            # One envelope for many queues is sent once. The batch keeps it alive, so its id is it.
            if id(put.envelope) not in bodies:
                bodies[id(put.envelope)] = len(encoded)
                encoded.append(encode(put.envelope))
            groups.setdefault(put.queue, []).append(position)
        self.args.append(len(encoded))
        self.args += encoded
        self._settle(batch)
        self.args.append(len(batch.limits))
        for queue, limit in batch.limits.items():
            self.args += (
                self._queue(queue),
                queue,
                -1 if limit.max_length is None else limit.max_length,
                -1 if limit.max_bytes is None else limit.max_bytes,
                1 if limit.overflow == "reject" else 0,
                1 if limit.keep_dropped else 0,
            )
        self.args += (len(batch.puts), len(groups))
        for queue, positions in groups.items():
            self._put(batch, queue, positions, bodies)

    def _settle(self, batch: Batch) -> None:
        if not batch.acks and not batch.releases:
            self.args.append(0)
            return
        acks: dict[str, list[Claim]] = {}
        releases: dict[str, list[tuple[Claim, bool]]] = {}
        for claim in batch.acks:
            acks.setdefault(claim.queue, []).append(claim)
        for claim, is_delivered in batch.releases:
            releases.setdefault(claim.queue, []).append((claim, is_delivered))
        queues = dict.fromkeys([*acks, *releases])
        self.args.append(len(queues))
        for queue in queues:
            ours = acks.get(queue, [])
            self.args += (self._queue(queue), len(ours))
            self.args += [claim.id for claim in ours]
            self._settled += ours
            theirs = releases.get(queue, [])
            self.args.append(len(theirs))
            for claim, is_delivered in theirs:
                self.args += (claim.id, 1 if is_delivered else 0)
                self._settled.append(claim)

    def _put(
        self, batch: Batch, queue: str, positions: list[int], bodies: Mapping[int, int]
    ) -> None:
        """Write the puts of one queue as runs of consecutive bodies with equal attributes."""
        runs: list[list[int]] = []
        for position in positions:
            put = batch.puts[position]
            body = bodies[id(put.envelope)]
            delay = milliseconds(put.delay) if put.delay > 0 else 0
            ttl = -1 if put.ttl is None else milliseconds(put.ttl)
            last = runs[-1] if runs else None
            if (
                last is not None
                and body == last[1] + last[0]
                and last[2:] == [put.priority, delay, ttl]
            ):
                last[0] += 1
            else:
                runs.append([1, body, put.priority, delay, ttl])
        self._order += positions
        self.args += (self._queue(queue), len(runs))
        for run in runs:
            self.args += run

    def result(self, reply: list[Any]) -> CommitResult:
        """Read a reply that is more than 'done'."""
        outcome = reply[0]
        if outcome == b"conflict":
            raise Conflict(key.decode() for key in reply[1:])
        if outcome == b"lost":
            return CommitResult(lost=[self._settled[position] for position in reply[1:]])
        queues = list(self._positions)
        _, rejected, dropped = reply
        return CommitResult(
            rejected=sorted(self._order[position] for position in rejected),
            dropped=[
                Claimed(
                    Claim(queues[queue], id_.decode()),
                    decode(body),
                    int(returns),
                    False,
                    priority_of(place),
                )
                for queue, id_, place, body, returns in dropped
            ],
        )
