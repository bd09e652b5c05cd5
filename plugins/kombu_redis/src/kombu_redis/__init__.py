"""The plugin of kombu_core for Redis and Valkey.

The core imports it when somebody asks for one of its schemes, so it may import the driver at once.
"""

from __future__ import annotations

from typing import Final

from kombu_core.hookspecs import hookimpl
from kombu_core.transport import TransportClass
from kombu_redis.transport import RedisTransport

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1

_SCHEMES: Final = frozenset({"redis", "rediss", "redis+socket"})


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the Redis transport for its schemes."""
    return RedisTransport if scheme in _SCHEMES else None
