"""The options of the beanstalkd transport, from the URL's query and `transport_options`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

#: Begins the name of a tube, which has 200 bytes for all of it.
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.+()][A-Za-z0-9_.+()-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeanstalkOptions:
    """What can be set; every duration is in seconds.

    Attributes:
        prefix: What the names of all tubes begin with. Applications that differ in it share
            nothing.
        lease: How long a session lives without a sign of life. The messages of a process that
            died are back at once; those of one that hangs, after that. A message keeps the lease
            of its publisher, in whole seconds, so all connections should have the same.
        socket_timeout: Longest wait for one reply, and for one write.
        socket_connect_timeout: Longest wait for a connection; None: the connect timeout of the
            `Connection`.
        max_job_size: The largest job in bytes that the server takes, which is its option -z;
            `server`: ask it.
    """

    prefix: str = "kombu"
    lease: float = 30.0
    socket_timeout: float = 10.0
    socket_connect_timeout: float | None = None
    max_job_size: int | Literal["server"] = "server"

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                "prefix must have 1 to 40 letters, digits or characters of _.+()-, not beginning "
                "with a hyphen"
            )
        for name in ("lease", "socket_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.socket_connect_timeout is not None and self.socket_connect_timeout <= 0:
            raise ValueError("socket_connect_timeout must be more than 0")
        if self.max_job_size != "server" and self.max_job_size < 1024:
            raise ValueError("max_job_size must be at least 1024")
