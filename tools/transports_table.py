"""Print docs/transports.md: what each installed transport can do, from its own capabilities."""

from __future__ import annotations

import sys

from kombu_amqp.transport import AmqpTransport
from kombu_beanstalk.store import CAPABILITIES as BEANSTALK
from kombu_beanstalk.transport import BeanstalkTransport
from kombu_core.capabilities import Capabilities, StoreCapabilities
from kombu_core.memory import MemoryStore, MemoryTransport
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.transport import VirtualTransport
from kombu_django.options import CAPABILITIES as DJANGO
from kombu_redis.store import RedisStore
from kombu_redis.transport import RedisTransport
from kombu_sqlalchemy.store import CAPABILITIES
from kombu_sqlalchemy.transport import SQLAlchemyTransport

HEAD = """# What each transport can do

Generated from the capabilities that the runtime enforces (`python tools/transports_table.py`); a
test fails when this page is out of date. What a transport does not have raises `UnsupportedError`
where it is asked for.
"""


def capabilities() -> list[Capabilities]:
    """Return the capabilities of all transports of this repository, without any broker."""
    stores: list[tuple[type, str, StoreCapabilities]] = [
        (MemoryTransport, "memory://", MemoryStore.capabilities),
        (RedisTransport, "redis://", RedisStore.capabilities),
        (SQLAlchemyTransport, "sqlalchemy+sqlite:///queue.db", CAPABILITIES),
        # Its own transport can be imported only where Django is set up.
        (VirtualTransport, "django://", DJANGO),
        (BeanstalkTransport, "beanstalk://", BEANSTALK),
    ]
    virtual = [
        transport(TransportParameters(parse(url, opaque="+" in url), {})).make_capabilities(store)
        for transport, url, store in stores
    ]
    return [*virtual, AmqpTransport.capabilities]


def page() -> str:
    """Return the page."""
    columns = capabilities()
    names = [column.name for column in columns]
    lines = [HEAD, f"| | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}"]
    for feature in columns[0].flags():
        cells = ["yes" if column.flags()[feature] else "no" for column in columns]
        lines.append(f"| `{feature}` | {' | '.join(cells)} |")
    types = [", ".join(sorted(column.exchange_types)) for column in columns]
    lines.append(f"| exchange types | {' | '.join(types)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
