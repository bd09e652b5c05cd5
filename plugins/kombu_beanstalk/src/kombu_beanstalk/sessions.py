"""Sessions: who is alive, whose lease ran out, and what has to be cleaned up after them.

The sign of life of a session is a delayed job in a tube of its own: while there is one that is
delayed, the session lives. An alarm, a job of the same delay in a tube of all, tells that it may be
time to look; it is put after the sign of life, so it is ready after that, and whoever finds that
the session is over leaves it there for the others, until the session is ended. Renewing puts new
ones before it deletes the old, so no crash ends a session early. Who lives also watches the tube of
his sessions: a session that is over and watched is that of a process that hangs.

The server counts whole seconds. Who began a session counts himself: for him it ends in time.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.wire import Reply, Wire, put, stats
from kombu_beanstalk.wires import Wires

#: Seconds after which a reserved alarm is ready again, if who looks at it hangs.
_TTR: Final = 10
#: Seconds between two looks at the tube of a queue that was dropped.
CLEAN_DELAY: Final = 5

#: Cleans a tube (of a queue) and tells whether nothing is left to do.
Clean = Callable[[str, str], bool]


class _Session:
    __slots__ = ("ends", "jobs")

    def __init__(self) -> None:
        #: When its lease runs out (monotonic seconds).
        self.ends = 0.0
        #: Its sign of life and its alarm.
        self.jobs: list[int] = []


class Sessions:
    """The sessions that one store began, and those that it found dead. Thread-safe.

    Args:
        wires: Connections.
        layout: The names of the tubes.
        hangs: Called when a session was found that is over, and its process is connected.
    """

    def __init__(self, wires: Wires, layout: Layout, *, hangs: Callable[[], object]) -> None:
        self._wires = wires
        self._layout = layout
        self._report_hanging = hangs
        self._lock = threading.RLock()
        self._own: dict[str, _Session] = {}
        #: The alarms that were seen of sessions that are over, and not ended.
        self._alarms: dict[str, set[int]] = {}

    def is_alive(self, session: str) -> bool:
        """Whether the lease of a session that this store began holds."""
        own = self._own.get(session)
        return own is not None and monotonic() < own.ends

    def begin(self, session: str, ttl: float) -> None:
        """Create a session, or push the end of its lease."""
        with self._lock:
            own = self._own.get(session) or _Session()
            delay = max(1, math.ceil(ttl))
            own.ends = monotonic() + ttl
            alarm = put(_dump(session=session, ttl=delay), delay=delay, ttr=_TTR)
            life = put(b"", delay=delay)
            with self._wires.lent("talk") as wire:
                tube = self._layout.session(session)
                commands = [*wire.attend(tube), *wire.enter(tube), life]
                commands += [*wire.enter(self._layout.sessions), alarm]
                commands += [b"delete %d" % job for job in own.jobs]
                replies = wire.ask(commands)
            own.jobs = [reply.number for reply in replies[:2]]
            self._own[session] = own

    def lose(self, sessions: set[str]) -> None:
        """Let sessions be over at once: their claims are lost."""
        for session in sessions:
            self._own.setdefault(session, _Session()).ends = float("-inf")

    def end(self, session: str) -> None:
        """Forget a session. Idempotent."""
        with self._lock:
            own = self._own.pop(session, None)
            # The signs of life first: what has none, an alarm may still tell of.
            jobs = own.jobs if own else []
            jobs += self._alarms.pop(session, ())
            with self._wires.lent("talk") as wire:
                tube = self._layout.session(session)
                turn = [*wire.leave(tube), *wire.enter(tube)]
                *_, found = wire.ask([b"delete %d" % job for job in jobs] + turn + [b"peek-ready"])
                while found.status == b"FOUND":
                    *_, found = wire.ask([b"delete %d" % found.number, b"peek-ready"])

    def reap(self, clean: Clean) -> list[str]:
        """Return all sessions that are over and not ended; look after what else is due."""
        with self._lock, self._wires.lent("empty") as wire:
            seen, self._alarms = self._alarms, {}
            hanging: set[str] = set()
            turn = wire.follow([self._layout.sessions])
            while True:
                (found,) = wire.ask([*turn, b"reserve-with-timeout 0"])
                turn = []
                if found.status != b"RESERVED":
                    break
                what = json.loads(found.body)
                if "session" in what:
                    if self._look(wire, what["session"], what["ttl"], found):
                        hanging.add(what["session"])
                elif clean(what["queue"], what["tube"]):
                    wire.ask([b"delete %d" % found.number])
                else:
                    wire.ask([b"release %d 0 %d" % (found.number, CLEAN_DELAY)])
            alarms = [alarm for some in self._alarms.values() for alarm in some]
            wire.ask([b"release %d 0 0" % alarm for alarm in alarms])
            if hanging - seen.keys():
                self._report_hanging()
            return sorted({*self._alarms, *self._lapsed(wire)})

    def _lapsed(self, wire: Wire) -> list[str]:
        """Return the sessions that began here, are over, and were not ended elsewhere."""
        lapsed = [session for session in self._own if not self.is_alive(session)]
        signs = [(session, job) for session in lapsed for job in self._own[session].jobs[:1]]
        found = wire.ask([b"peek %d" % job for _, job in signs])
        for (session, _), sign in zip(signs, found, strict=True):
            if sign.status != b"FOUND":
                del self._own[session]
        return [session for session in lapsed if session in self._own]

    def _look(self, wire: Wire, session: str, ttl: int, alarm: Reply) -> bool:
        """Note whether a session is over; returns whether it is that of a process that hangs."""
        tube = self._layout.session(session)
        (found,) = wire.ask([b"stats-tube " + tube.encode()])
        life = stats(found.body)
        if int(life.get("current-jobs-delayed", 0)):
            # It was renewed; should who did so have died before he put the alarm, this is it.
            wire.ask([b"release %d 0 %d" % (alarm.number, ttl)])
            return False
        self._alarms.setdefault(session, set()).add(alarm.number)
        return int(life.get("current-watching", 0)) > 0

    def clean_later(self, tubes: list[tuple[str, str]]) -> None:
        """Note queues and tubes to be cleaned, in case that nobody does it now."""
        jobs = [
            put(_dump(queue=queue, tube=tube), delay=CLEAN_DELAY, ttr=_TTR) for queue, tube in tubes
        ]
        if jobs:
            self._wires.ask(jobs, enter=self._layout.sessions)


def _dump(**what: str | int) -> bytes:
    return json.dumps(what).encode()
