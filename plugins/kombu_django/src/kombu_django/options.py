"""The options of the transport, from the URL's query and `transport_options`; its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kombu_core.capabilities import StoreCapabilities

#: PostgreSQL's values and SQLite's end at 1 GB, their way there a little earlier.
MAX_BYTES: Final = 512 * 1024 * 1024

#: What a store can do on every database.
CAPABILITIES: Final = StoreCapabilities(
    name="django", shared=True, persistent=True, max_message_bytes=MAX_BYTES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DjangoOptions:
    """What can be set; every duration is in seconds.

    Attributes:
        lease: How long a session lives without a sign of life; a dead consumer's messages are
            delivered to others after that.
        lock_timeout: Longest wait for a lock that another transaction holds. Then the call fails
            with a retryable error.
        synchronous: SQLite's level outside of the application's transactions: with FULL a
            confirmed message survives a power failure, with NORMAL the end of the process.
        listen: Whether a consumer that waits on PostgreSQL is told by NOTIFY, on a connection for
            each thread that waits (with psycopg 3; else it polls). Say False behind a pooler that
            gives a connection to others after each transaction: then nothing is set on
            connections either, and `lock_timeout` is the role's.
        pool_size: How many connections of its own a transport keeps open while nobody uses them;
            each thread that is in a call or waits takes one.
    """

    lease: float = 30.0
    lock_timeout: float = 10.0
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    listen: bool = True
    pool_size: int = 5

    def __post_init__(self) -> None:
        for name in ("lease", "lock_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.pool_size < 0:
            raise ValueError("pool_size must be 0 or more")
