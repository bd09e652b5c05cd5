"""Sessions: who is alive, whose lease ran out, and what has to be cleaned up after them.

The sign of life of a session is a delayed job in a tube of its own: while there is one that is
delayed, the session lives. An alarm, a job of the same delay in a tube of all, tells that it may be
time to look; it is put after the sign of life, so it is ready after that. Renewing puts new ones
before it deletes the old, so no crash ends a session early, and whoever reserved an alarm and died
gives it back for the next.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from kombu_beanstalk.kept import KeptWire
from kombu_beanstalk.layout import Layout
from kombu_beanstalk.wire import Reply, put, stats
from kombu_beanstalk.wires import Wires

#: Seconds after which a reserved alarm is somebody else's, if who has it hangs.
_TTR: Final = 60
#: Seconds between two looks at the tube of a queue that was dropped.
CLEAN_DELAY: Final = 5

#: Cleans a tube (of a queue) and tells whether nothing is left to do.
Clean = Callable[[str, str], bool]


class _Session:
    __slots__ = ("ends", "jobs")

    def __init__(self) -> None:
        #: When its lease runs out (monotonic seconds), or a little later.
        self.ends = 0.0
        #: Its sign of life and its alarm.
        self.jobs: list[int] = []


class Sessions:
    """The sessions that one store began, and those that it found dead. Thread-safe.

    Args:
        wires: Connections.
        layout: The names of the tubes.
        over: Called when sessions were found that are over.
    """

    def __init__(self, wires: Wires, layout: Layout, *, over: Callable[[], object]) -> None:
        self._wires = wires
        self._layout = layout
        self._report_over = over
        self._lock = threading.RLock()
        self._own: dict[str, _Session] = {}
        #: Sessions that are over and not ended, with the alarms that we have.
        self._over: dict[str, list[int]] = {}
        #: What holds those: if it is lost, the server gives them to whoever asks next.
        self._kept = KeptWire(wires, self._over.clear)
        self._ask = self._kept.ask

    def is_alive(self, session: str) -> bool:
        """Whether the lease of a session that this store began holds."""
        own = self._own.get(session)
        return own is not None and monotonic() < own.ends

    def begin(self, session: str, ttl: float) -> None:
        """Create a session, or push the end of its lease, in whole seconds."""
        with self._lock:
            own = self._own.get(session) or _Session()
            delay = max(1, math.ceil(ttl))
            own.ends = monotonic() + delay
            alarm = put(_dump(session=session, ttl=delay), delay=delay, ttr=_TTR)
            life = put(b"", delay=delay)
            with self._wires.lent("talk") as wire:
                commands = [*wire.enter(self._layout.session(session)), life]
                commands += [*wire.enter(self._layout.sessions), alarm]
                commands += [b"delete %d" % job for job in own.jobs]
                replies = wire.ask(commands)
            own.jobs = [reply.number for reply in replies[:2]]
            self._own[session] = own

    def lose(self, sessions: set[str]) -> None:
        """Let sessions be over at once: their claims are lost."""
        for session in sessions:
            if own := self._own.get(session):
                own.ends = float("-inf")

    def end(self, session: str) -> None:
        """Forget a session. Idempotent."""
        with self._lock:
            own = self._own.pop(session, None)
            alarms = self._over.pop(session, [])
            with self._wires.lent("talk") as wire:
                # The signs of life first: what has none, an alarm may still tell of.
                jobs = own.jobs if own else ()
                turn = wire.enter(self._layout.session(session))
                *_, found = wire.ask([b"delete %d" % job for job in jobs] + turn + [b"peek-ready"])
                while found.status == b"FOUND":
                    *_, found = wire.ask([b"delete %d" % found.number, b"peek-ready"])
            if alarms and self._kept.is_open:
                self._ask([b"delete %d" % alarm for alarm in alarms])

    def reap(self, clean: Clean) -> list[str]:
        """Return all sessions that are over and not ended; look after what else is due."""
        with self._lock:
            known = len(self._over)
            while True:
                wire = self._kept.open()
                turn = wire.follow([self._layout.sessions])
                (found,) = self._ask([*turn, b"reserve-with-timeout 0"])
                if found.status != b"RESERVED":
                    if len(self._over) > known:
                        self._report_over()
                    return list(self._over)
                what = json.loads(found.body)
                if "session" in what:
                    self._look(what["session"], what["ttl"], found)
                elif clean(what["queue"], what["tube"]):
                    self._ask([b"delete %d" % found.number])
                else:
                    self._ask([b"release %d 0 %d" % (found.number, CLEAN_DELAY)])

    def _look(self, session: str, ttl: int, alarm: Reply) -> None:
        tube = self._layout.session(session)
        (life,) = self._ask([b"stats-tube " + tube.encode()])
        if life.status == b"OK" and int(stats(life.body)["current-jobs-delayed"]):
            # It was renewed; should who did so have died before he put the alarm, this is it.
            self._ask([b"release %d 0 %d" % (alarm.number, ttl)])
        else:
            self._over.setdefault(session, []).append(alarm.number)

    def clean_later(self, tubes: list[tuple[str, str]]) -> None:
        """Note queues and tubes to be cleaned, in case that nobody does it now."""
        jobs = [
            put(_dump(queue=queue, tube=tube), delay=CLEAN_DELAY, ttr=_TTR) for queue, tube in tubes
        ]
        if jobs:
            self._wires.ask(jobs, enter=self._layout.sessions)

    def close(self) -> None:
        """Give the alarms back."""
        with self._lock:
            self._over.clear()
            self._kept.close()


def _dump(**what: str | int) -> bytes:
    return json.dumps(what).encode()
