"""What the sessions of one store hold: reserved jobs, all of one connection.

beanstalkd gives them back at once when the connection ends, and each when its time to run is over
and nobody touched it. How often a message was delivered is read from its job: each reserve counts,
less those after which it was buried, which is how it moves without having been delivered.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import monotonic
from typing import Final, NamedTuple

from kombu_beanstalk.kept import KeptWire
from kombu_beanstalk.layout import job_priority, late, open_job
from kombu_beanstalk.waiting import Hand, Waiter, give_back, promotion
from kombu_beanstalk.wire import Reply
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ConnectionLostError
from kombu_core.virtual.store import Claim, Claimed, Release, Want

#: Jobs that are asked for at first, of a queue that nothing is known of.
_FIRST: Final = 8
#: And at most, in one round trip.
_MOST: Final = 256
#: Seconds between two looks for delayed messages that are due, and how many are moved at a time
#: after the first.
_PROMOTE: Final = 0.02
_LATE_JOBS: Final = 16
#: Tubes that something is remembered of.
_MOST_TUBES: Final = 2000
#: A job that was got by waiting was reserved less than this before it was read (seconds).
_READ: Final = 0.1
#: A claim is asked for before it is settled if less than this share of its time is left.
_DOUBT: Final = 0.2
#: A connection that watches more tubes does not become the one that claims.
_FEW: Final = 8

_JOB: Final = re.compile(
    rb"pri: (\d+)\n.*^ttr: (\d+)\n.*^reserves: (\d+)\n.*^buries: (\d+)\n", re.DOTALL | re.MULTILINE
)


class Source(NamedTuple):
    """A wish, and the tube that it is about."""

    want: Want
    tube: str


class _Held:
    """A reserved job."""

    __slots__ = ("priority", "session", "ttr", "tube", "until")

    def __init__(self, session: str, tube: str, priority: int, ttr: int, until: float) -> None:
        self.session = session
        self.tube = tube
        #: Of the job.
        self.priority = priority
        self.ttr = ttr
        #: When its time to run is over if it is not touched (monotonic seconds), or later.
        self.until = until


class Claims:
    """Reserves and settles. Thread-safe; one thread at a time talks, and none blocks for long.

    Args:
        wires: Connections.
        waiter: Who waits, and what he got.
        lost: Called with the sessions whose claims were lost with the connection.
    """

    def __init__(self, wires: Wires, waiter: Waiter, *, lost: Callable[[set[str]], object]) -> None:
        self._waiter = waiter
        self._report_lost = lost
        self._lock = threading.RLock()
        self._kept = KeptWire(wires, self._lose)
        self._ask = self._kept.ask
        self._held: dict[int, _Held] = {}
        #: Claims that ended although their session lives, or before anybody knew, by session.
        self._gone: dict[str, set[int]] = {}
        #: How many jobs to ask for, by tube; also what this store claims from.
        self._hints: dict[str, int] = {}
        #: When to look for delayed messages that are due (monotonic seconds), by tube.
        self._promote_at: dict[str, float] = {}

    @property
    def tubes(self) -> list[str]:
        """Tubes that this store claims from."""
        with self._lock:
            return list(self._hints)

    @property
    def sessions(self) -> set[str]:
        """Sessions that have something."""
        with self._lock:
            return {held.session for held in self._held.values()}

    # -- claiming --------------------------------------------------------------------------

    def claim(self, sources: Sequence[Source], session: str, limit: int) -> list[Claimed]:
        """Claim for a session; see `kombu_core.virtual.store.Store.claim`."""
        with self._lock:
            queues = {source.tube: source.want.queue for source in sources}
            asked = monotonic()
            if len(self._hints) > _MOST_TUBES:
                self._hints.clear()
                self._promote_at.clear()
            self._promote(queues, asked)
            hands = self._waiter.hands(set(queues), limit)
            # Since when the first of them may be reserved.
            asked = min([asked, *(hand.since - _READ for hand in hands)])
            taken = self._adopt(hands)
            ahead = [source for source in sources if source.want.expired_only]
            if ahead:
                taken += self._expired(ahead, limit - len(taken))
            waiting = [source for source in sources if not source.want.expired_only]
            looked: list[Reply] = []
            while waiting and len(taken) < limit:
                waiting = self._round(waiting, taken, looked, limit)
            return self._hold(taken, looked, queues, session, asked)

    def _round(
        self,
        sources: list[Source],
        taken: list[tuple[str, Reply]],
        looked: list[Reply],
        limit: int,
    ) -> list[Source]:
        """Ask for jobs of as many tubes as there is room for; returns those that may have more.

        In the same round trip it looks at what was taken in the one before.
        """
        room = limit - len(taken)
        wire = self._kept.open()
        commands = _look_at(taken[len(looked) :])
        looks = len(commands)
        asked: dict[str, int] = {}
        at = 0
        while at < len(sources) and room > 0 and sources[at].tube not in asked:
            (_, wanted, _), tube = sources[at]
            at += 1
            there = sum(1 for other, _ in taken if other == tube)
            count = min(wanted - there, room, self._hints.get(tube, _FIRST))
            if count > 0:
                commands += wire.follow([tube])
                commands += [b"reserve-with-timeout 0"] * count
                asked[tube] = count
                room -= count
        replies = self._ask(commands) if asked else []
        looked += replies[:looks]
        answers = iter(replies[looks:])
        full = set()
        for tube, count in asked.items():
            jobs = [job for job in islice(answers, count) if job.status == b"RESERVED"]
            taken += [(tube, job) for job in jobs]
            hint = self._hints.get(tube, _FIRST)
            if len(jobs) < count:
                hint = max(1, len(jobs))  # There are not more.
            elif count == hint:
                hint = min(count * 4, _MOST)
                full.add(tube)
            self._hints[tube] = hint
        return [source for source in sources[:at] if source.tube in full] + sources[at:]

    def _expired(self, sources: Sequence[Source], room: int) -> list[tuple[str, Reply]]:
        """Reserve what is at the head of a queue and out of time."""
        wire = self._kept.open()
        taken: list[tuple[str, Reply]] = []
        for want, tube in sources:
            for _ in range(min(want.limit, room - len(taken))):
                (head,) = self._ask([*wire.enter(tube), b"peek-ready"])
                if head.status != b"FOUND":
                    break
                _, expires = open_job(head.body)
                if expires is None or expires > time.time():
                    break
                (reply,) = self._ask([b"reserve-job %d" % head.number])
                if reply.status == b"RESERVED":
                    taken.append((tube, reply))
        return taken

    def promote(self, tube: str) -> None:
        """Move the delayed messages of a tube that are due to their queue, now."""
        with self._lock:
            self._promote([tube], float("inf"))

    def _promote(self, tubes: Iterable[str], now: float) -> None:
        """Move delayed messages that are due to their queues: put, then delete."""
        due = [tube for tube in tubes if now >= self._promote_at.get(tube, 0.0)]
        for tube in due:
            self._promote_at[tube] = monotonic() + _PROMOTE
        wire = self._kept.open()
        count = 1
        while due:
            commands: list[bytes] = []
            for tube in due:
                commands += wire.follow([late(tube)])
                commands += [b"reserve-with-timeout 0"] * count
            replies = self._ask(commands)
            again = []
            for at, tube in enumerate(due):
                found = replies[at * count : (at + 1) * count]
                jobs = [reply for reply in found if reply.status == b"RESERVED"]
                if jobs:
                    self._ask(promotion(wire, tube, jobs, self._waiter.ttr))
                if len(jobs) == count:
                    again.append(tube)
            due, count = again, _LATE_JOBS

    def _adopt(self, hands: Iterable[Hand]) -> list[tuple[str, Reply]]:
        """Take over what was reserved while waiting."""
        taken: list[tuple[str, Reply]] = []
        for hand in hands:
            if not self._held and not taken and hand.wire.watched <= _FEW:
                # Nothing is held by the other connection: it takes the place of this one.
                self._kept.replace(hand.wire)
                taken.append((hand.tube, hand.reply))
            elif reply := self._move(hand):
                taken.append((hand.tube, reply))
        return taken

    def _move(self, hand: Hand) -> Reply | None:
        """Move a job to the connection of the claims: through being buried, where none takes it.

        Whoever dies in between leaves it buried, until somebody who claims here looks.
        """
        try:
            if not self._waiter.bury(hand):
                return None
        except ConnectionLostError:
            return None
        (reply,) = self._ask([b"reserve-job %d" % hand.reply.number])
        return reply if reply.status == b"RESERVED" else None

    def _hold(
        self,
        taken: Sequence[tuple[str, Reply]],
        looked: list[Reply],
        queues: dict[str, str],
        session: str,
        asked: float,
    ) -> list[Claimed]:
        if not taken:
            return []
        claimed = []
        if rest := _look_at(taken[len(looked) :]):
            looked += self._ask(rest)
        now = time.time()
        for (tube, reply), stats in zip(taken, looked, strict=True):
            match = _JOB.search(stats.body)
            if match is None:
                continue  # It ran out of its time to run before we could look.
            priority, ttr, reserves, buries = map(int, match.groups())
            self._held[reply.number] = _Held(session, tube, priority, ttr, asked + ttr)
            content, expires = open_job(reply.body)
            claimed.append(
                Claimed(
                    Claim(queues[tube], str(reply.number)),
                    content,
                    max(0, reserves - 1 - buries),
                    expires is not None and expires <= now,
                    job_priority(priority),
                )
            )
        return claimed

    # -- settling --------------------------------------------------------------------------

    def lost(
        self, claims: Sequence[Claim], session: str, *, is_alive: bool, is_sure: bool
    ) -> list[Claim]:
        """Return which claims the session does not have any more.

        Args:
            claims: What is about to be settled.
            session: Whose they are.
            is_alive: Whether the session is. What one that lives never had is no loss.
            is_sure: Ask the server for all of them, for nothing may be lost from now on.
        """
        with self._lock:
            now = monotonic()
            gone = self._gone.get(session, ())
            lost, doubtful = [], []
            for claim in claims:
                held = self._find(claim, session)
                if held is None:
                    if not is_alive or int(claim.id) in gone:
                        lost.append(claim)
                elif is_sure or held.until - now < held.ttr * _DOUBT:
                    doubtful.append(claim)
            over = self._touch([int(claim.id) for claim in doubtful])
            return lost + [claim for claim in doubtful if int(claim.id) in over]

    def settle(
        self, acks: Sequence[Claim], releases: Sequence[Release], session: str
    ) -> list[Claim]:
        """Delete and release what the session has; returns what it turned out not to have."""
        with self._lock:
            commands: list[bytes] = []
            claims: list[Claim | None] = []
            for claim in acks:
                if self._find(claim, session) and claim not in claims:
                    commands.append(b"delete %b" % claim.id.encode())
                    claims.append(claim)
            for claim, is_delivered in releases:
                if (held := self._find(claim, session)) and claim not in claims:
                    back = give_back(int(claim.id), held.priority, is_delivered=is_delivered)
                    commands += back
                    claims += [claim, None][: len(back)]
            if not commands:
                return []
            replies = self._ask(commands)
            lost = []
            for settled, reply in zip(claims, replies, strict=True):
                if settled is not None:
                    self._held.pop(int(settled.id), None)
                    if reply.status == b"NOT_FOUND":
                        lost.append(settled)
            if lost:
                self._gone.setdefault(session, set()).update(int(claim.id) for claim in lost)
            return lost

    def _find(self, claim: Claim, session: str) -> _Held | None:
        held = self._held.get(int(claim.id))
        return held if held is not None and held.session == session else None

    def touch(self, session: str) -> None:
        """Let the time to run of all that the session has begin anew."""
        with self._lock:
            self._touch([job for job, held in self._held.items() if held.session == session])

    def _touch(self, jobs: Sequence[int]) -> set[int]:
        """Touch jobs; returns those that are not ours any more."""
        if not jobs:
            return set()
        asked = monotonic()
        over = set()
        for job, reply in zip(jobs, self._ask([b"touch %d" % job for job in jobs]), strict=True):
            if reply.status == b"TOUCHED":
                self._held[job].until = asked + self._held[job].ttr
            else:
                over.add(job)
                self._gone.setdefault(self._held.pop(job).session, set()).add(job)
        return over

    def release(self, session: str) -> None:
        """Give back all that the session has, as delivered, and forget it."""
        with self._lock:
            claims = [
                Release(Claim("", str(job)))
                for job, held in self._held.items()
                if held.session == session
            ]
            self.settle((), claims, session)
            self._gone.pop(session, None)

    def end_tube(self, tube: str) -> None:
        """Delete what this store has of a tube: its queue was dropped."""
        with self._lock:
            jobs = [job for job, held in self._held.items() if held.tube == tube]
            for job in jobs:
                del self._held[job]
            self._hints.pop(tube, None)
            self._promote_at.pop(tube, None)
            if jobs:
                self._ask([b"delete %d" % job for job in jobs])

    def close(self) -> None:
        """Let the connection go, and so all that is held."""
        with self._lock:
            self._held.clear()
            self._kept.close()

    def _lose(self) -> None:
        """The connection is lost, and with it all that was held."""
        sessions = set()
        for job, held in self._held.items():
            self._gone.setdefault(held.session, set()).add(job)
            sessions.add(held.session)
        self._held.clear()
        self._report_lost(sessions)


def _look_at(taken: Sequence[tuple[str, Reply]]) -> list[bytes]:
    """Return the commands that tell how often jobs were delivered."""
    return [b"stats-job %d" % reply.number for _, reply in taken]
