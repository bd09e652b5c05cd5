"""Locks that the server releases when their holder dies: one job in a tube, reserved.

A lock keeps writers from getting in each other's way. Nobody relies on it alone to keep the
document table whole, because a holder that hangs loses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kombu_beanstalk.wire import Reply, Wire, put, stats
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import KombuError

#: Seconds after which a holder that hangs has lost a lock.
LOCK_TTR: Final = 10
#: Seconds until a candidate would become ready by itself.
_FOR_EVER: Final = 1 << 31
#: Longest wait for one, in seconds.
_PATIENCE: Final = 5


class Locks:
    """Takes locks for one store. Thread-safe; a lock is never taken twice by one store.

    Args:
        wires: Connections.
        hangs: Called when a holder seems to hang.
    """

    def __init__(self, wires: Wires, *, hangs: Callable[[], object]) -> None:
        self._wires = wires
        self._report_hanging = hangs
        self._guard = threading.Lock()
        self._held: dict[str, threading.Lock] = {}

    @contextmanager
    def held(self, tube: str) -> Iterator[Wire]:
        """Hold the lock of a tube; gives the connection that holds it, for more commands.

        Blocks while another one holds it, for some seconds at most; then goes on without.
        """
        with self._guard:
            local = self._held.setdefault(tube, threading.Lock())
        with local, self._wires.lent("lock") as wire:
            job = _acquire(wire, tube)
            if not job:
                self._report_hanging()
            try:
                yield wire
            except KombuError:
                _release(wire, job)
                raise
            # After any other error the connection is closed, and the server releases the lock.
            _release(wire, job)


def _acquire(wire: Wire, tube: str) -> int:
    """Reserve the lock's job, and make it if there is none; 0 if it cannot be had."""
    (reply,) = wire.ask([*wire.follow([tube]), b"reserve-with-timeout 0"])
    if reply.status == b"RESERVED":
        return reply.number
    _make(wire, tube)
    (reply,) = wire.ask([b"reserve-with-timeout %d" % _PATIENCE])
    return reply.number if reply.status == b"RESERVED" else 0


def _make(wire: Wire, tube: str) -> None:
    """See to it that there is exactly one lock, however many try at once.

    Each puts a candidate that is delayed for ever, and all make the first of these ready. Whoever
    does not see that one among the delayed any more sees afterwards that there is a lock.
    """
    (found,) = wire.ask([b"stats-tube " + tube.encode()])
    if _is_there(found):
        return
    look = [b"peek-delayed", b"stats-tube " + tube.encode()]
    candidate = put(b"", delay=_FOR_EVER, ttr=LOCK_TTR)
    mine, first, found = wire.ask([*wire.enter(tube), candidate, *look])
    commands = []
    if not _is_there(found):
        commands.append(b"kick-job %d" % first.number)
    if first.number != mine.number or _is_there(found):
        commands.append(b"delete %d" % mine.number)
    wire.ask(commands)


def _is_there(reply: Reply) -> bool:
    found = stats(reply.body)
    return any(int(found.get(f"current-jobs-{state}", 0)) for state in ("ready", "reserved"))


def _release(wire: Wire, job: int) -> None:
    if job:
        wire.ask([b"release %d 0 0" % job])
