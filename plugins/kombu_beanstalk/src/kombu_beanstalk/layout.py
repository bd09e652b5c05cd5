"""How things are called and written in beanstalkd: tubes, priorities, the bytes of a job. No I/O.

PREFIX/VHOST/topology        the root of the document table; ready, and read by peeking
PREFIX/VHOST/pages           the pages of the document table; buried
PREFIX/VHOST/lock            one job that whoever changes documents reserves
PREFIX/VHOST/sessions        alarms: one job for each session, ready when its lease ran out
PREFIX/VHOST/session/S       the sign of life of session S, delayed until its lease runs out
PREFIX/VHOST/holder/ID       nothing; watched by a store whose sessions may hold claims
PREFIX/VHOST/queue/Q;BORN    the messages of queue Q as it was declared at version BORN
PREFIX/VHOST/queue/Q         the messages of a queue that was never declared
…;late                       of either: its delayed messages, until somebody moves them
PREFIX/VHOST/limit/Q         one job that whoever puts into the limited queue Q reserves
PREFIX/VHOST/brake/N         nothing; many of them, for a while: see `brake`
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from kombu_core.message import Envelope, Malformed
from kombu_core.virtual.envelope import decode

_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-+._()")
_MAX_TUBE: Final = 200
#: How much of a name stays readable where the whole is too long.
_READABLE: Final = 60

_LATE: Final = ";late"
#: Delayed jobs come in the order of their times: hundredths of a second, modulo 497 days.
_RANKS_PER_SECOND: Final = 100
_RANKS: Final = 1 << 32

#: A job with this mark has the time when it expires (milliseconds since 1970) before its envelope.
_EXPIRING: Final = b"T1"
_EXPIRY: Final = struct.Struct(">2sQ")
#: A delayed job has this mark and the message's priority before all that.
_DELAYED: Final = struct.Struct(">2sB")
_DELAYED_MARK: Final = b"D1"


class Layout(NamedTuple):
    """The names of the tubes of one virtual host."""

    base: str

    @classmethod
    def of(cls, prefix: str, virtual_host: str) -> Layout:
        """Make the layout of a virtual host."""
        return cls(f"{prefix}/{_encode(virtual_host, _MAX_TUBE // 2 - len(prefix))}/")

    @property
    def topology(self) -> str:
        """The tube of the root."""
        return f"{self.base}topology"

    @property
    def pages(self) -> str:
        """The tube of the pages."""
        return f"{self.base}pages"

    @property
    def lock(self) -> str:
        """The tube of the lock of the document table."""
        return f"{self.base}lock"

    @property
    def sessions(self) -> str:
        """The tube of the alarms."""
        return f"{self.base}sessions"

    def session(self, session: str) -> str:
        """The tube of a session's signs of life."""
        return self._named("session", session)

    def holder(self, name: str) -> str:
        """The tube that a store watches whose sessions may hold claims."""
        return self._named("holder", name)

    def queue(self, queue: str, born: int) -> str:
        """The tube of a queue; `born` is 0 if it was never declared."""
        return self._named("queue", queue, f";{born}" if born else "")

    def limit(self, queue: str) -> str:
        """The tube of the lock of a limited queue."""
        return self._named("limit", queue)

    def brake(self, number: int) -> str:
        """One of the tubes that slow the server down."""
        return f"{self.base}brake/{number}"

    def _named(self, kind: str, name: str, suffix: str = "") -> str:
        start = f"{self.base}{kind}/"
        room = _MAX_TUBE - len(start) - len(suffix) - len(_LATE)
        return start + _encode(name, room) + suffix


def _encode(name: str, room: int) -> str:
    """Write a name in the alphabet of tubes; one that is too long ends with its digest."""
    raw = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in _SAFE else f"${byte:02X}" for byte in raw)
    if len(text) <= room:
        return text
    # No escape sequence is "$.", so this is no other name's encoding.
    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
    return f"{text[: min(_READABLE, room - 34)]}$.{digest}"


def late(tube: str) -> str:
    """Return the tube of the delayed messages of a queue's tube."""
    return tube + _LATE


def is_late(tube: str) -> bool:
    """Whether a tube is one of delayed messages."""
    return tube.endswith(_LATE)


def job_priority(priority: int) -> int:
    """Return the priority of a job, the smallest first, by that of its message; and the reverse."""
    return 255 - priority


def late_priority(due: float) -> int:
    """Return the priority of a delayed job that is due at a time (seconds since 1970)."""
    return int(due * _RANKS_PER_SECOND) % _RANKS


def late_body(body: bytes, priority: int) -> bytes:
    """Return the bytes of a delayed job, from those that it will have, and its priority then."""
    return _DELAYED.pack(_DELAYED_MARK, priority) + body


def open_late(body: bytes) -> tuple[bytes, int]:
    """Undo `late_body`."""
    if body[:2] != _DELAYED_MARK or len(body) < _DELAYED.size:
        return body, 0
    return body[_DELAYED.size :], body[2]


def job_body(raw: bytes, expires: float | None) -> bytes:
    """Return the bytes of a job: an envelope, and when it expires (seconds since 1970)."""
    if expires is None:
        return raw
    return _EXPIRY.pack(_EXPIRING, int(expires * 1000)) + raw


def open_job(body: bytes) -> tuple[Envelope | Malformed, float | None]:
    """Undo `job_body`. Raises nothing."""
    expires = expiry_of(body)
    return decode(body if expires is None else body[_EXPIRY.size :]), expires


def expiry_of(body: bytes) -> float | None:
    """Return when a job expires (seconds since 1970); None: never."""
    if body[:2] != _EXPIRING or len(body) < _EXPIRY.size:
        return None
    _, milliseconds = _EXPIRY.unpack_from(body)
    return int(milliseconds) / 1000
