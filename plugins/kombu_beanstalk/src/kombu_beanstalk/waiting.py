"""Waiting for messages: a blocking reserve on a connection of its own.

What it gets is kept in hand until the next claim takes it over. It is not lost if that never comes:
it goes back, not counted as delivered, when it is not wanted or was kept for a second; and at once
if the process dies.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Final, NamedTuple

from kombu_beanstalk.layout import job_priority, late, open_late
from kombu_beanstalk.wire import Reply, Wire, put, stats
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ConnectionLostError

#: Seconds that something stays in hand for a claim.
_KEEP: Final = 1.0


class Hand(NamedTuple):
    """A job that somebody who waited got, and the connection that has it."""

    tube: str
    reply: Reply
    wire: Wire
    since: float


class Waiter:
    """Waits for one store. Thread-safe; each thread that waits has a connection of its own.

    Args:
        wires: Connections.
        ttr: Whole seconds after which a claim is over that nobody touched.
    """

    def __init__(self, wires: Wires, *, ttr: int) -> None:
        self._wires = wires
        self.ttr = ttr
        self._lock = threading.Lock()
        self._hands: list[Hand] = []

    def wait(self, tubes: Collection[str], timeout: float) -> bool:
        """Block until there is a job in one of `tubes`; False after `timeout` seconds or before.

        The server counts whole seconds; a wait that is shorter is ended by closing the connection.
        """
        with self._lock:
            if any(hand.tube in tubes for hand in self._hands):
                return True
        deadline = monotonic() + timeout
        with self._wires.at_border(self._wires.take("wait")) as wire:
            reply = self._await(wire, tubes, deadline)
            if reply is None:
                self._wires.discard(wire)
                return False
            if reply.status != b"RESERVED":
                self._wires.give(wire, "wait")
                return False
            if len(tubes) == 1:
                (tube,) = tubes
            else:
                (found,) = wire.ask([b"stats-job %d" % reply.number])
                tube = stats(found.body).get("tube", "")
        with self._lock:
            self._hands.append(Hand(tube, reply, wire, monotonic()))
        return True

    def _await(self, wire: Wire, tubes: Collection[str], deadline: float) -> Reply | None:
        """Reserve a job; None if the connection is of no use any more."""
        left = deadline - monotonic()
        seconds = max(1, int(left)) if left > 0 else 0
        try:
            with self._wires.waiting(wire):
                if self._wires.is_closed:
                    return None
                # Answered first: what the reader has already, a look at the socket would not see.
                wire.ask(wire.follow(tubes))
                wire.send([b"reserve-with-timeout %d" % seconds])
                if seconds and not wire.is_readable(max(0.0, deadline - monotonic())):
                    return None
                return wire.receive()
        except OSError:
            if self._wires.is_closed:
                return None
            raise

    def hands(self, wanted: Collection[str], limit: int) -> list[Hand]:
        """Take what is in hand of the tubes `wanted`; the rest goes back."""
        with self._lock:
            if not self._hands:
                return []
            hands, self._hands = self._hands, []
        late_ones = {late(tube): tube for tube in wanted}
        taken = [hand for hand in hands if hand.tube in wanted][:limit]
        for hand in hands:
            if hand.tube in late_ones:
                self._promote(hand, late_ones[hand.tube])
            elif hand not in taken:
                self._return(hand)
        return taken

    def _promote(self, hand: Hand, tube: str) -> None:
        """Move a delayed message that is due to its queue, where the next reserve finds it."""
        with self._wires.at_border(hand.wire) as wire:
            wire.ask(promotion(wire, tube, [hand.reply], self.ttr))
            self._wires.give(wire, "wait")

    def count(self, tubes: Collection[str]) -> int:
        """Count what is in hand of some tubes."""
        with self._lock:
            return sum(hand.tube in tubes for hand in self._hands)

    def tidy(self, *, is_end: bool = False) -> None:
        """Give back what nobody took for a while; all of it at the end."""
        with self._lock:
            now = monotonic()
            old = [hand for hand in self._hands if is_end or now - hand.since > _KEEP]
            self._hands = [hand for hand in self._hands if hand not in old]
        for hand in old:
            self._return(hand)

    def bury(self, hand: Hand) -> bool:
        """Bury a job, to be reserved by another connection; False if it is not ours any more."""
        return self._let_go(hand, is_ready=False)

    def _return(self, hand: Hand) -> None:
        try:
            self._let_go(hand, is_ready=True)
        except ConnectionLostError:
            pass  # The server has it back.

    def _let_go(self, hand: Hand, *, is_ready: bool) -> bool:
        job = hand.reply.number
        with self._wires.at_border(hand.wire) as wire:
            (found,) = wire.ask([b"stats-job %d" % job])
            priority = int(stats(found.body).get("pri", 0))
            commands = give_back(job, priority, is_delivered=False)
            replies = wire.ask(commands if is_ready else commands[:1])
            self._wires.give(wire, "wait")
        return replies[0].status == b"BURIED"


def promotion(wire: Wire, tube: str, jobs: Sequence[Reply], ttr: int) -> list[bytes]:
    """Return the commands that move reserved delayed jobs to the end of their queue.

    All jobs are put before the first is deleted: whoever dies in between leaves them twice.
    """
    commands = wire.enter(tube)
    for job in jobs:
        body, priority = open_late(job.body)
        commands.append(put(body, priority=job_priority(priority), ttr=ttr))
    return commands + [b"delete %d" % job.number for job in jobs]


def give_back(job: int, priority: int, *, is_delivered: bool) -> list[bytes]:
    """Return the commands that make a reserved job ready again, at its old place.

    One that nobody saw goes by way of being buried: its job tells the difference afterwards. Both
    commands travel in one packet; should the server die between them, the job stays buried until
    somebody who claims from its tube looks.
    """
    if is_delivered:
        return [b"release %d %d 0" % (job, priority)]
    return [b"bury %d %d" % (job, priority), b"kick-job %d" % job]
