"""The options of the transport, from the URL's `kombu_` parameters and `transport_options`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kombu_core.url import RedactedDict

#: What can be part of a table's name on every database, unquoted.
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
#: With the longest suffix of ours it stays below PostgreSQL's 63.
_LONGEST_PREFIX: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLAlchemyOptions:
    """What can be set; every duration is in seconds.

    Attributes:
        prefix: What the names of all tables begin with. Applications that differ in it share
            nothing: it is the virtual host.
        schema: The database's schema that has the tables; None: the one that the user's names
            are looked up in. SQLite has none.
        create_tables: Whether missing tables are created, and old ones upgraded, at the first
            connection; None: on SQLite only.
        lease: How long a session lives without a sign of life; a dead consumer's messages are
            delivered to others after that.
        lock_timeout: Longest wait for a lock that another transaction holds. Then the call fails
            with a retryable error.
        socket_timeout: Longest wait for one reply, where the driver can tell (PyMySQL).
        pool_size: How many connections are kept open for each transport.
        max_overflow: How many more there may be at the same time; each thread that talks takes
            one, and one that waits keeps it. Who finds none for `socket_timeout` gets
            `ConnectionLimitExceededError`.
        synchronous: SQLite's level: with FULL a confirmed message survives a power failure,
            with NORMAL the end of the process.
        connect_args: Arguments for the driver's own `connect`, as for `create_engine`.
    """

    prefix: str = "kombu_"
    schema: str | None = None
    create_tables: bool | None = None
    lease: float = 30.0
    lock_timeout: float = 10.0
    socket_timeout: float = 30.0
    pool_size: int = 5
    max_overflow: int = 50
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    connect_args: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.connect_args is not None:  # A password may be in it.
            object.__setattr__(self, "connect_args", RedactedDict(self.connect_args))
        if not _NAME.fullmatch(self.prefix) or len(self.prefix) > _LONGEST_PREFIX:
            raise ValueError(
                f"prefix must be lower-case letters, digits and _, at most {_LONGEST_PREFIX}"
            )
        if self.schema is not None and not _NAME.fullmatch(self.schema):
            raise ValueError("schema must be lower-case letters, digits and _")
        for name in ("lease", "lock_timeout", "socket_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.pool_size < 2:
            raise ValueError("pool_size must be at least 2: one waits, one works")
        if self.max_overflow < 0:
            raise ValueError("max_overflow must not be negative")
