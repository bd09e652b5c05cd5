"""Sessions: who is alive, whose lease ran out, and what has to be cleaned up after them.

The sign of life of a session is a delayed job in a tube of its own: while there is one that is
delayed, the session lives. An alarm, a job of the same delay in a tube of all, tells that it may be
time to look; it is put after the sign of life, so it is ready after that, and whoever finds that
the session is over leaves it there for the others, until the session is ended. Renewing puts new
ones before it deletes the old, so no crash ends a session early.

From its first claim on, the alarm of a session names its holder: a tube that the connections of its
process watch. If the session is over and its holder is watched, that process hangs, and has what
the session claimed. Of a session that never claimed, like that of a queue that expires, it is no
matter who is connected.

The server counts whole seconds. Who began a session counts himself: for him it ends in time.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.wire import Reply, Wire, put, stats
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ConnectionLostError, OperationalError

#: Seconds after which a reserved alarm is ready again, if who looks at it hangs.
_TTR: Final = 10
#: Seconds between two looks at the tube of a queue that was dropped.
CLEAN_DELAY: Final = 5

#: For how long one look empties the tubes of queues that were dropped (seconds).
_CLEAN_SECONDS: Final = 1.0

#: Cleans a tube (of a queue) until some time (monotonic seconds); whether nothing is left to do.
Clean = Callable[[str, str, float], bool]


class _Session:
    __slots__ = ("ends", "holds", "jobs")

    def __init__(self) -> None:
        #: When its lease runs out (monotonic seconds).
        self.ends = 0.0
        #: Its sign of life and its alarm.
        self.jobs: list[int] = []
        #: Whether it may have claims.
        self.holds = False


class Sessions:
    """The sessions that one store began, and those that it found dead. Thread-safe.

    Args:
        wires: Connections.
        layout: The names of the tubes.
        hangs: Called when a session was found that is over, may have claims, and whose process is
            connected; again at the next look if it raises.
    """

    def __init__(self, wires: Wires, layout: Layout, *, hangs: Callable[[], object]) -> None:
        self._wires = wires
        self._layout = layout
        self._report_hanging = hangs
        self._lock = threading.RLock()
        self._holder = layout.holder(os.urandom(8).hex())
        self._own: dict[str, _Session] = {}
        #: The alarms that were seen of sessions that are over, and not ended.
        self._alarms: dict[str, set[int]] = {}
        #: The sessions of processes that hang, that were reported.
        self._hanging: set[str] = set()

    def is_alive(self, session: str) -> bool:
        """Whether the lease of a session that this store began holds."""
        own = self._own.get(session)
        return own is not None and monotonic() < own.ends

    def begin(self, session: str, ttl: float) -> None:
        """Create a session, or push the end of its lease."""
        with self._lock:
            own = self._own.get(session) or _Session()
            own.ends = monotonic() + ttl
            self._sign(session, own, ttl, holds=own.holds)
            self._own[session] = own

    def hold(self, session: str) -> None:
        """Note that a session may have claims from now on; two round trips, the first time."""
        own = self._own.get(session)
        if own is None or own.holds:
            return
        with self._lock:
            left = own.ends - monotonic()
            if left > 0 and self._own.get(session) is own and not own.holds:
                try:
                    self._sign(session, own, left, holds=True)
                except ConnectionLostError:
                    raise
                except OperationalError:
                    return  # In drain mode the server takes no jobs, but gives what it has.
                own.holds = True

    def _sign(self, session: str, own: _Session, ttl: float, *, holds: bool) -> None:
        """Put the signs of a session that lives for so long, and delete those before."""
        delay = max(1, math.ceil(ttl))
        what: dict[str, str | int] = {"session": session, "ttl": delay}
        if holds:
            what["holder"] = self._holder
        life, alarm = put(b"", delay=delay), put(_dump(**what), delay=delay, ttr=_TTR)
        with self._wires.lent("talk") as wire:
            commands = wire.attend(self._holder) if holds else []
            commands += [*wire.enter(self._layout.session(session)), life]
            commands += [*wire.enter(self._layout.sessions), alarm]
            before, own.jobs = own.jobs, [reply.number for reply in wire.ask(commands)]
            wire.ask([b"delete %d" % job for job in before])

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
                turn = wire.enter(self._layout.session(session))
                *_, found = wire.ask([b"delete %d" % job for job in jobs] + turn + [b"peek-ready"])
                while found.status == b"FOUND":
                    *_, found = wire.ask([b"delete %d" % found.number, b"peek-ready"])

    def reap(self, clean: Clean) -> list[str]:
        """Return all sessions that are over and not ended; look after what else is due."""
        hanging: set[str] = set()
        due: list[tuple[str, str, int]] = []
        with self._lock, self._wires.lent("empty") as wire:
            self._alarms = {}
            turn = wire.follow([self._layout.sessions])
            while True:
                (found,) = wire.ask([*turn, b"reserve-with-timeout 0"])
                turn = []
                if found.status != b"RESERVED":
                    break
                what = json.loads(found.body)
                if "session" not in what:
                    # Nobody else looks meanwhile; if this one dies, somebody does.
                    wire.ask([b"release %d 0 %d" % (found.number, CLEAN_DELAY)])
                    due.append((what["queue"], what["tube"], found.number))
                elif self._look(wire, what, found):
                    hanging.add(what["session"])
            alarms = [alarm for some in self._alarms.values() for alarm in some]
            wire.ask([b"release %d 0 0" % alarm for alarm in alarms])
            over = sorted({*self._alarms, *self._lapsed(wire)})
        if hanging - self._hanging:
            self._report_hanging()
        self._hanging = hanging
        # Without the lock, as a tube may be long: a lease has to be renewed meanwhile.
        until = monotonic() + _CLEAN_SECONDS
        for queue, tube, job in due:
            if monotonic() < until and clean(queue, tube, until):
                self._wires.ask([b"delete %d" % job])
        return over

    def _lapsed(self, wire: Wire) -> list[str]:
        """Return the sessions that began here, are over, and were not ended elsewhere."""
        lapsed = [session for session in self._own if not self.is_alive(session)]
        signs = [(session, job) for session in lapsed for job in self._own[session].jobs[:1]]
        found = wire.ask([b"peek %d" % job for _, job in signs])
        for (session, _), sign in zip(signs, found, strict=True):
            if sign.status != b"FOUND":
                del self._own[session]
        return [session for session in lapsed if session in self._own]

    def _look(self, wire: Wire, what: dict[str, Any], alarm: Reply) -> bool:
        """Note whether a session is over; returns whether a process hangs that may have claims."""
        session, ttl = what["session"], what["ttl"]
        tubes = [self._layout.session(session)]
        if "holder" in what:
            tubes.append(what["holder"])
        looks = wire.ask([b"stats-tube " + tube.encode() for tube in tubes])
        life, *holder = [stats(reply.body) for reply in looks]
        if int(life.get("current-jobs-delayed", 0)):
            # It was renewed; should who did so have died before he put the alarm, this is it.
            wire.ask([b"release %d 0 %d" % (alarm.number, ttl)])
            return False
        self._alarms.setdefault(session, set()).add(alarm.number)
        return any(int(found.get("current-watching", 0)) for found in holder)

    def clean_later(self, tubes: list[tuple[str, str]]) -> None:
        """Note queues and tubes to be cleaned, in case that nobody does it now."""
        jobs = [
            put(_dump(queue=queue, tube=tube), delay=CLEAN_DELAY, ttr=_TTR) for queue, tube in tubes
        ]
        if jobs:
            self._wires.ask(jobs, enter=self._layout.sessions)


def _dump(**what: str | int) -> bytes:
    return json.dumps(what).encode()
