"""The plugin of kombu_core for databases: PostgreSQL, MariaDB, MySQL and SQLite by SQLAlchemy.

The core imports it when somebody asks for one of its schemes, so it may import SQLAlchemy at once.
"""

from __future__ import annotations

from typing import Final

from kombu_core.hookspecs import hookimpl
from kombu_core.outbox import relay
from kombu_core.transport import TransportClass
from kombu_sqlalchemy.inbox import Inbox
from kombu_sqlalchemy.joining import joined
from kombu_sqlalchemy.outbox import Outbox
from kombu_sqlalchemy.schema import create_tables, make_metadata
from kombu_sqlalchemy.transport import SQLAlchemyTransport

__all__ = [
    "Inbox",
    "Outbox",
    "SQLAlchemyTransport",
    "create_tables",
    "joined",
    "kombu_transport",
    "make_metadata",
    "relay",
]

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1

_SCHEMES: Final = frozenset({"sqlalchemy", "sqla"})


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the SQLAlchemy transport for its schemes, as `sqlalchemy+postgresql`."""
    return SQLAlchemyTransport if scheme.partition("+")[0] in _SCHEMES else None
