"""Where everything is in Redis: the names of the keys, and how a place in a queue is a number.

All keys of a virtual host begin with one hash tag, ``{PREFIX:VHOST}:``, so they live in one slot of
a cluster. Below, Q is a queue's name and S a session's.

    seq         string   counter of message ids and document versions
    docs        hash     document key -> value
    versions    hash     document key -> version
    index       zset     document keys, all with score 0, to scan by prefix

    sessions    zset     session -> end of its lease (ms since 1970, the server's clock)
    lapsed      set      sessions that are over and not forgotten yet
    held:S      set      names of the queues in which S claimed something

    ready:Q     zset     message id -> place; the smallest is next
    body:Q      hash     message id -> envelope; of all messages: ready, claimed and delayed
    claims:S:Q  hash     message id -> place; what S has of Q. In S, "%" and ":" are quoted
    delayed:Q   zset     "id:priority" or "id:priority:ttl" -> when it becomes ready (ms)
    expiry:Q    zset     message id -> when its time runs out (ms); only messages with a ttl
    returns:Q   hash     message id -> deliveries that came back; only where there were any
    bytes:Q     string   sum of the ready bodies; only of queues that had a limit in bytes
    owners:Q    set      sessions that may have claims on Q
    wake:Q      list     at most one token, taken by one of those who wait

The kind of a key comes before the name of its queue, so no queue's name can make two keys one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

#: A place is ``(255 - priority) * BAND + number``: at most 2**53 - 1, exact in a double.
BAND: Final = 1 << 45
MAX_PRIORITY: Final = 255

#: The keys of a queue that do not depend on a session, in the order that the scripts expect.
QUEUE_KINDS: Final = (
    "ready",
    "body",
    "wake",
    "delayed",
    "expiry",
    "returns",
    "bytes",
    "owners",
)

_CACHED_QUEUES: Final = 4096


def priority_of(place: bytes) -> int:
    """Return the priority that is in a place, as Redis wrote the number."""
    return MAX_PRIORITY - int(float(place)) // BAND


class Layout:
    """The names of all keys of one virtual host."""

    def __init__(self, prefix: str, vhost: str) -> None:
        self._tag = tag = f"{{{prefix}:{vhost}}}:"
        self.seq = tag + "seq"
        self.docs = tag + "docs"
        self.versions = tag + "versions"
        self.index = tag + "index"
        self.sessions = tag + "sessions"
        self.lapsed = tag + "lapsed"
        # Names are made for every call; the caches are bounded, for reply queues come and go.
        self.queue = lru_cache(_CACHED_QUEUES)(self._queue)
        self.claims = lru_cache(_CACHED_QUEUES)(self._claims)

    def held(self, session: str) -> str:
        """Return the key of the set of queues in which a session claimed something."""
        return f"{self._tag}held:{session}"

    def key(self, kind: str, queue: str) -> str:
        """Return one key of a queue; `kind` is one of `QUEUE_KINDS`."""
        return f"{self._tag}{kind}:{queue}"

    def _queue(self, queue: str) -> tuple[str, ...]:
        """Return the keys of a queue in the order of `QUEUE_KINDS`."""
        return tuple(self.key(kind, queue) for kind in QUEUE_KINDS)

    def _claims(self, session: str, queue: str) -> tuple[str, ...]:
        """Return the keys of a queue and of a session's claims on it."""
        quoted = session.replace("%", "%25").replace(":", "%3A")
        return (*self._queue(queue), f"{self._tag}claims:{quoted}:{queue}")
