"""The transport: from a URL and options to a store. All else is the virtual transport's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction

from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.url import BrokerURL
from kombu_core.virtual.joining import JoiningSession
from kombu_core.virtual.polling import PollingWaiter, Waiter
from kombu_core.virtual.store import Claim, Store
from kombu_core.virtual.transport import VirtualTransport
from kombu_django.database import DjangoDatabase
from kombu_django.listening import PostgreSQLWaiter
from kombu_django.messages import DjangoQueries
from kombu_django.models import Message
from kombu_django.options import CAPABILITIES, MAX_BYTES, DjangoOptions
from kombu_django.readiness import require_django
from kombu_django.statements import glance, rows
from kombu_django.store import DjangoStore
from kombu_django.tables import has_tables, missing_tables, require_alias
from kombu_django.wrappers import is_psycopg3


class DjangoSession(JoiningSession):
    """Is joined as long as the thread is in `transaction.atomic` on the same database."""

    @property
    def _database(self) -> DjangoDatabase:
        if not isinstance(self._store, DjangoStore):
            raise TypeError(f"a {type(self._store).__name__} is no store of this transport")
        return self._store.database

    @property
    def is_joined(self) -> bool:
        return self._database.is_joined

    def flush(self) -> None:
        """As for any transport; acks that waited are no part of a transaction begun since."""
        database = self._database
        if not database.is_joined:
            super().flush()
        elif not database.is_exclusive:  # Else the keeper does it soon.
            with database.alone("acknowledge"):
                super().flush()

    def watch_expiry(self, queue: str) -> None:
        self._when_others_may_write(lambda: super(DjangoSession, self).watch_expiry(queue))

    def use_queue(self, queue: str, expires: float) -> None:
        self._when_others_may_write(lambda: super(DjangoSession, self).use_queue(queue, expires))

    def _when_others_may_write(self, begin: Callable[[], object]) -> None:
        """Begin what needs a session now; on SQLite after the end of a transaction."""
        alias = self._database.alias
        if self._database.is_exclusive and connections[alias].in_atomic_block:
            transaction.on_commit(begin, using=alias, robust=True)
        else:
            begin()


class DjangoTransport(VirtualTransport):
    """AMQP on a database of Django's.

    Raises:
        ConfigurationError: From the constructor: an unknown option or database, or Django is not
            set up.
    """

    driver_type: ClassVar[str] = "sql"
    driver_name: ClassVar[str] = "Django"

    def __init__(self, parameters: TransportParameters) -> None:
        require_django()
        self.alias = alias_of(parameters.url)
        self._options = parse_options(
            DjangoOptions,
            {**parameters.url.query, **parameters.options},
            source="the options of the django transport",
        )
        super().__init__(parameters, lease=self._options.lease)

    def open_store(self) -> DjangoStore:
        database = DjangoDatabase(self.alias, self._options)
        try:
            database.open()
            if not database.run(has_tables):
                raise missing_tables(self.alias)
            largest = database.run(_largest)
            return DjangoStore(
                database,
                _waiter(database, self._options),
                replace(CAPABILITIES, max_message_bytes=largest),
                self._give_back,
            )
        except BaseException:
            database.close()
            raise

    @property
    def store(self) -> DjangoStore:
        """The store, connected."""
        store = self.parts.broker.store
        if not isinstance(store, DjangoStore):
            raise TypeError(f"a {type(store).__name__} is no store of this transport")
        return store

    # -- in the application's transaction --------------------------------------------------

    def make_session(self, store: Store, id: str) -> DjangoSession:
        return DjangoSession(store, id, lease=self._options.lease, give_up=self.give_up)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """What was settled in a transaction was not: it was rolled back."""
        # A session that is over has given back everything.
        if self._parts is not None and isinstance(self._parts.session, JoiningSession):
            self._parts.session.give_back(claims)


def alias_of(url: BrokerURL) -> str:
    """Return the alias of the database that a URL names, or that the routers choose.

    Raises:
        ConfigurationError: There is none, or the URL says more than an alias and options.
    """
    if url.port or url.userid or url.password or url.virtual_host:
        raise ConfigurationError(
            "A django URL is django:// or django://ALIAS, with options behind a question mark; "
            "all else is in DATABASES"
        )
    alias: str = url.hostname or router.db_for_write(Message) or DEFAULT_DB_ALIAS
    require_alias(alias)
    return alias


def _waiter(database: DjangoDatabase, options: DjangoOptions) -> Waiter:
    if options.listen and is_psycopg3(connections[database.alias]):
        return PostgreSQLWaiter(database)
    settings: dict[str, Any] = connections[database.alias].settings_dict
    place = " ".join(str(settings.get(part, "")) for part in ("ENGINE", "HOST", "PORT", "NAME"))
    glances = glance if database.vendor == "sqlite" else None
    return PollingWaiter(database, DjangoQueries(database.vendor), place, glances)


def _largest(using: str) -> int:
    """Return how large an envelope may be."""
    if connections[using].vendor != "mysql":
        return MAX_BYTES
    ((found,),) = rows(using, "SELECT @@max_allowed_packet")
    # With its statement it is one packet, and a client may have to escape each byte.
    return min(MAX_BYTES, int(found) // 2 - 65536)
