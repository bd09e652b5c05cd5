"""Tubes as queues: putting, limits, counting, emptying. Each job goes in one atomic step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from kombu_beanstalk.layout import (
    Layout,
    job_body,
    job_priority,
    late,
    late_body,
    late_priority,
)
from kombu_beanstalk.lock import Locks
from kombu_beanstalk.table import Root
from kombu_beanstalk.wire import Reply, Wire, put, stats
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ContentTooLargeError, OperationalError
from kombu_core.virtual.envelope import encode
from kombu_core.virtual.store import Claimed, Counts, Limit, Put

#: Jobs that are reserved, then deleted, at a time.
_PIECE: Final = 200
#: As many as there are.
_ALL: Final = (1 << 32) - 1

#: Puts what is at some positions of a batch, and returns the tubes of their queues.
PutSome = Callable[[Sequence[int]], Mapping[str, str]]
#: Claims up to so many from the head of a queue's tube.
TakeHead = Callable[[str, str, int], list[Claimed]]


class Queues:
    """Puts into tubes and looks into them. Thread-safe.

    Args:
        ttr: Whole seconds after which a claim is over that nobody touched.
    """

    def __init__(
        self, wires: Wires, layout: Layout, locks: Locks, *, max_job_size: int, ttr: int
    ) -> None:
        self._wires = wires
        self._layout = layout
        self._locks = locks
        self._max_job_size = max_job_size
        self._ttr = ttr

    # -- putting ---------------------------------------------------------------------------

    def encode(self, puts: Sequence[Put]) -> list[bytes]:
        """Return the command of each put.

        Raises:
            ContentTooLargeError: One is larger than a job may be.
        """
        return [self._command(item) for item in puts]

    def _command(self, item: Put) -> bytes:
        _, envelope, priority, delay, ttl = item
        body = encode(envelope)
        whole = 0
        now = time.time()
        if delay > 0:
            whole = math.ceil(delay)
        if ttl is not None:
            body = job_body(body, now + whole + ttl)
        if whole:
            body = late_body(body, priority)
        if len(body) > self._max_job_size:
            raise ContentTooLargeError(
                f"The message takes {len(body)} bytes with its headers; beanstalkd takes at most "
                f"{self._max_job_size} in one job (its option -z sets it)"
            )
        rank = late_priority(now + delay) if whole else job_priority(priority)
        return put(body, priority=rank, delay=whole, ttr=self._ttr)

    def places(self, puts: Sequence[Put], tubes: Mapping[str, str]) -> list[str]:
        """Return the tube of each put; `tubes` are those of the queues."""
        return [late(tubes[item.queue]) if item.delay > 0 else tubes[item.queue] for item in puts]

    def put(self, tubes: Sequence[str], commands: Sequence[bytes], root: Root) -> list[int]:
        """Put one job into each of `tubes`; one round trip for all.

        Returns the jobs if the document table may have moved on from `root` before they were all
        there; nothing if it had not.
        """
        with self._wires.lent("talk") as wire:
            if len(commands) == 1:
                sent = [*wire.enter(tubes[0]), commands[0]]
            else:
                sent = []
                for tube, command in zip(tubes, commands, strict=True):
                    sent += wire.enter(tube)
                    sent.append(command)
            if root.mark:
                sent.append(b"peek %d" % root.mark)
            else:
                sent += [*wire.enter(self._layout.topology), b"peek-ready"]
            *replies, found = wire.ask(sent)
            for reply in replies:
                if reply.status != b"INSERTED":
                    self._refuse(wire, reply)
        if found.status == (b"FOUND" if root.mark else b"NOT_FOUND"):
            return []
        return [reply.number for reply in replies]

    def take_back(self, jobs: Sequence[int]) -> None:
        """Delete jobs that were put, but for those that somebody has already."""
        self._wires.ask([b"delete %d" % job for job in jobs])

    @staticmethod
    def _refuse(wire: Wire, reply: Reply) -> None:
        if reply.status == b"JOB_TOO_BIG":
            raise ContentTooLargeError(
                "beanstalkd takes no job of this size (its option -z sets the limit, and "
                "max_job_size of the connection tells more than that)"
            )
        if reply.status == b"BURIED":
            # It had no memory to queue the job, and kept it where nobody would find it.
            wire.ask([b"delete %d" % reply.number])
        raise OperationalError(f"beanstalkd did not store the message: {reply.status.decode()}")

    def put_limited(
        self,
        puts: Sequence[Put],
        tubes: Mapping[str, str],
        put: PutSome,
        limits: Mapping[str, Limit],
        take_head: TakeHead,
    ) -> tuple[list[int], list[Claimed]]:
        """Put into queues of which some are limited; returns what was refused and pushed out."""
        limited = {
            queue: limits[queue] for queue in sorted({item.queue for item in puts} & limits.keys())
        }
        rejected: list[int] = []
        with ExitStack() as stack:
            for queue in limited:
                stack.enter_context(self._locks.held(self._layout.limit(queue)))
            room = {
                queue: (limit.max_length or 0) - self._tube_counts([tubes[queue]])[0].ready
                for queue, limit in limited.items()
                if limit.overflow == "reject"
            }
            for position, item in enumerate(puts):
                if item.queue in room:
                    if room[item.queue] <= 0:
                        rejected.append(position)
                    room[item.queue] -= 1
            kept = [at for at in range(len(puts)) if at not in set(rejected)]
            if kept:
                tubes = {**tubes, **put(kept)}
            dropped = [
                item
                for queue, limit in limited.items()
                if limit.overflow == "drop-head"
                for item in self._shorten(queue, tubes[queue], limit, take_head)
            ]
        return rejected, dropped

    def shorten(self, queue: str, tube: str, limit: Limit, take_head: TakeHead) -> list[Claimed]:
        """Push out what is too much in a limited queue."""
        with self._locks.held(self._layout.limit(queue)):
            return self._shorten(queue, tube, limit, take_head)

    def _shorten(self, queue: str, tube: str, limit: Limit, take_head: TakeHead) -> list[Claimed]:
        excess = self._tube_counts([tube])[0].ready - (limit.max_length or 0)
        if excess <= 0:
            return []
        if limit.keep_dropped:
            # As if they had come one by one: the oldest was pushed out first.
            return sorted(take_head(queue, tube, excess), key=lambda item: int(item.claim.id))
        self.empty(tube, excess)
        return []

    # -- looking and emptying --------------------------------------------------------------

    def count(self, tube: str) -> Counts:
        """Count the messages of the queue in a tube."""
        return self.look(tube)[0]

    def look(self, tube: str) -> tuple[Counts, bool]:
        """Count the messages of the queue in a tube, and tell whether delayed ones are due."""
        now, later = self._tube_counts([tube, late(tube)])
        return Counts(*map(sum, zip(now, later, strict=True))), later.ready > 0

    def counts(self, tubes: Sequence[str]) -> list[Counts]:
        """Count the messages of the queues in tubes, in one round trip."""
        found = self._tube_counts([*tubes, *map(late, tubes)])
        return [
            Counts(*map(sum, zip(now, later, strict=True)))
            for now, later in zip(found, found[len(tubes) :], strict=False)
        ]

    def _tube_counts(self, tubes: Sequence[str]) -> list[Counts]:
        replies = self._wires.ask([b"stats-tube " + tube.encode() for tube in tubes])
        return [_counts(reply) for reply in replies]

    def purge(self, tube: str) -> int:
        """Delete the ready messages of the queue in a tube, and tell how many."""
        there = self._tube_counts([tube, late(tube)])
        # No more than there were at first, so that a busy publisher cannot keep this going.
        return sum(
            self.empty(one, count.ready)
            for one, count in zip((tube, late(tube)), there, strict=True)
            if count.ready
        )

    def empty(self, tube: str, most: int, *, until: float = math.inf) -> int:
        """Delete up to `most` ready jobs of a tube, from its head; returns how many.

        It goes on until some time (monotonic seconds), not for much longer.
        """
        deleted = 0
        with self._wires.lent("empty") as wire:
            turn = wire.follow([tube])
            while deleted < most and time.monotonic() < until:
                piece = min(_PIECE, most - deleted)
                found = wire.ask([*turn, *([b"reserve-with-timeout 0"] * piece)])
                turn = []
                jobs = [reply.number for reply in found if reply.status == b"RESERVED"]
                if jobs:
                    wire.ask([b"delete %d" % job for job in jobs])
                deleted += len(jobs)
                if len(jobs) < piece:
                    break
        return deleted

    def clear(self, tube: str, *, until: float = math.inf) -> bool:
        """Delete all jobs of a tube that nobody has reserved; True if there are none any more.

        It goes on until some time (monotonic seconds), not for much longer.
        """
        for one in (tube, late(tube)):
            # Each kick makes the jobs of one state ready: first the buried, then the delayed.
            kicks = [b"kick %d" % _ALL] * 2
            *_, found = self._wires.ask([*kicks, b"stats-tube " + one.encode()], enter=one)
            if ready := _counts(found).ready:
                self.empty(one, ready, until=until)
        return self.count(tube) == Counts(0, 0, 0)

    def unbury(self, tubes: Sequence[str]) -> None:
        """Make jobs ready that somebody buried and died."""
        with self._wires.lent("talk") as wire:
            commands: list[bytes] = []
            for tube in tubes:
                commands += [*wire.enter(tube), b"peek-buried"]
            found = [reply for reply in wire.ask(commands) if reply.status == b"FOUND"]
            wire.ask([b"kick-job %d" % reply.number for reply in found])


def _counts(reply: Reply) -> Counts:
    if reply.status != b"OK":
        return Counts(0, 0, 0)
    found = stats(reply.body)
    ready, reserved, delayed, buried = (
        int(found[f"current-jobs-{state}"]) for state in ("ready", "reserved", "delayed", "buried")
    )
    # Buried is what is on its way from one connection to another.
    return Counts(ready, reserved + buried, delayed)
