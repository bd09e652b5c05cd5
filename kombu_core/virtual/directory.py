"""The topology as one connection sees it: cached documents, routing by them, changing them.

Whatever is routed by is named with its version in each commit. A store that has a newer version
refuses, `forget` drops what is stale, and the same call is tried again: so a publish that starts
after a bind returned sees the binding, from any process, and the common case costs no read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kombu_core.exceptions import NotFoundError, UnsupportedError
from kombu_core.virtual.policy import policy_of
from kombu_core.virtual.routing import Binding, BindingTable, Destination
from kombu_core.virtual.store import Conflict, Document, Drop, Store, WriteResult
from kombu_core.virtual.topology import (
    PREDECLARED,
    ExchangeRecord,
    QueueRecord,
    binding_from_json,
    bindings_prefix,
    exchange_key,
    load_binding,
    load_exchange,
    load_queue,
    queue_key,
)

#: Routes that are remembered before the cache starts anew.
MAX_CACHED_ROUTES: Final = 10_000


class Route(NamedTuple):
    """Where a message goes, and the documents that say so."""

    queues: tuple[QueueRecord, ...]
    expect: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    #: There are queues, and neither they nor the exchange ask for anything but storing.
    is_plain: bool
    #: The exchange takes messages from other exchanges only.
    is_internal: bool = False

    @classmethod
    def to(
        cls, queues: Sequence[QueueRecord], expect: Mapping[str, int], *, is_internal: bool = False
    ) -> Route:
        """Make a route from what routing found."""
        is_plain = all(policy_of(queue.arguments).is_plain for queue in queues)
        return cls(
            tuple(queues),
            tuple(expect.items()),
            tuple(queue.name for queue in queues),
            bool(queues) and is_plain and not is_internal,
            is_internal,
        )


class Changes(NamedTuple):
    """What a transaction on documents wants to write."""

    documents: Mapping[str, bytes | None]
    drops: Sequence[Drop] = ()


class _Exchange(NamedTuple):
    record: ExchangeRecord
    version: int
    table: BindingTable


class Directory:
    """Cached view on the documents of a store. Thread-safe; may do a round trip in any method."""

    def __init__(
        self, store: Store, exchange_types: Mapping[str, type[BindingTable]], transport: str
    ) -> None:
        self._store = store
        self._types = exchange_types
        self._transport = transport
        self._lock = threading.RLock()
        self._exchanges: dict[str, _Exchange] = {}
        self._queues: dict[str, tuple[QueueRecord | None, int]] = {}
        self._routes: dict[tuple[str, str], Route] = {}

    # -- reading ---------------------------------------------------------------------------

    def cached(self, exchange: str, routing_key: str) -> Route | None:
        """Return a route that is known already, without any I/O."""
        return self._routes.get((exchange, routing_key))

    def route(self, exchange: str, routing_key: str, headers: Mapping[str, Any]) -> Route:
        """Return the queues that a message reaches; each once (AMQP 0-9-1, 3.1.3).

        Raises:
            NotFoundError: There is no such exchange.
        """
        route = self._routes.get((exchange, routing_key))
        if route is not None:
            return route
        with self._lock:
            route, is_cacheable = self._find_route(exchange, routing_key, headers)
            if not route.queues:
                # Nothing will be committed that could show that the cache is stale: look again.
                self.forget(key for key, _ in route.expect)
                route, is_cacheable = self._find_route(exchange, routing_key, headers)
            if is_cacheable and route.queues:
                if len(self._routes) >= MAX_CACHED_ROUTES:
                    self._routes.clear()
                self._routes[exchange, routing_key] = route
            return route

    def exchange(self, name: str) -> ExchangeRecord:
        """Return an exchange, read anew, without its bindings. Raises NotFoundError."""
        (document,) = self._store.read([exchange_key(name)])
        record = exchange_record(name, document)
        if record is None:
            raise NotFoundError(f"NOT_FOUND - no exchange '{name}'")
        return record

    def queue(self, name: str, *, fresh: bool = True) -> QueueRecord:
        """Return a queue, read anew unless `fresh` is false. Raises NotFoundError.

        That there is none is always read anew: nothing would ever show that it is stale.
        """
        with self._lock:
            cached, _ = self._queues.get(queue_key(name), (None, 0))
            if fresh or cached is None:
                self._queues.pop(queue_key(name), None)
            record, _ = self._queue(name)
        if record is None:
            raise NotFoundError(f"NOT_FOUND - no queue '{name}'")
        return record

    def known(self, name: str) -> tuple[QueueRecord | None, int]:
        """Return a queue as it was seen last, and the version to name in a commit that uses it."""
        with self._lock:
            return self._queue(name)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is cached of these documents, because they moved."""
        with self._lock:
            self._routes.clear()
            for key in keys:
                self._queues.pop(key, None)
                cached = self._exchanges.get(key)
                if cached is not None:
                    # The table stays: the log of the new document tells what to change in it.
                    self._exchanges[key] = cached._replace(version=-1)

    # -- writing ---------------------------------------------------------------------------

    def change(
        self,
        keys: Sequence[str],
        decide: Callable[[list[Document]], Changes | None],
    ) -> WriteResult | None:
        """Read, decide, write; and again from the start if somebody else was faster.

        `decide` gets the documents of `keys` and returns what to write, or None to leave all.
        """
        while True:
            documents = self._store.read(keys)
            changes = decide(documents)
            if changes is None:
                return None
            expect = [(document.key, document.version) for document in documents]
            try:
                return self._store.write(changes.documents, expect, changes.drops)
            except Conflict:
                continue
            finally:
                self.forget([*keys, *changes.documents])

    def bindings(self, exchange: str, destination: Destination) -> list[Binding]:
        """Return the bindings from an exchange to one destination."""
        keys = self._store.scan(bindings_prefix(exchange, destination))
        return [load_binding(item.value) for item in self._store.read(keys) if item.version]

    def table_for(self, record: ExchangeRecord) -> BindingTable:
        """Make an empty binding table of the exchange's type. Raises UnsupportedError."""
        try:
            return self._types[record.type](record.arguments)
        except KeyError:
            raise UnsupportedError(f"exchange type {record.type!r}", self._transport) from None

    # -- inside ----------------------------------------------------------------------------

    def _find_route(
        self, exchange: str, routing_key: str, headers: Mapping[str, Any]
    ) -> tuple[Route, bool]:
        if exchange == "":
            record, version = self._queue(routing_key)
            found = (record,) if record else ()
            return Route.to(found, {queue_key(routing_key): version}), True
        is_cacheable = True
        expect: dict[str, int] = {}
        queues: dict[str, None] = {}
        seen = {exchange: None}
        work = [exchange]
        while work:
            name = work.pop()
            cached = self._exchange(name)
            expect[exchange_key(name)] = cached.version
            is_cacheable = is_cacheable and not cached.table.uses_headers
            reached = list(cached.table.match(routing_key, headers))
            alternate = cached.record.alternate
            if not reached and alternate is not None:
                reached = [Destination("exchange", alternate)]
            for destination in reached:
                if destination.kind == "queue":
                    queues[destination.name] = None
                elif destination.name not in seen and self._has_exchange(destination.name, expect):
                    seen[destination.name] = None
                    work.append(destination.name)
        records = []
        for name in queues:
            record, version = self._queue(name)
            expect[queue_key(name)] = version
            if record is not None:
                records.append(record)
        is_internal = self._exchange(exchange).record.internal
        return Route.to(records, expect, is_internal=is_internal), is_cacheable

    def _has_exchange(self, name: str, expect: dict[str, int]) -> bool:
        """Tell whether a destination exists; an alternate exchange need not (RabbitMQ)."""
        try:
            self._exchange(name)
        except NotFoundError:
            expect[exchange_key(name)] = 0
            return False
        return True

    def _queue(self, name: str) -> tuple[QueueRecord | None, int]:
        key = queue_key(name)
        cached = self._queues.get(key)
        if cached is None:
            (document,) = self._store.read([key])
            record = load_queue(document.value) if document.version else None
            cached = (record, document.version)
            self._queues[key] = cached
        return cached

    def _exchange(self, name: str) -> _Exchange:
        key = exchange_key(name)
        cached = self._exchanges.get(key)
        if cached is not None and cached.version >= 0:
            return cached
        while True:
            (document,) = self._store.read([key])
            record = exchange_record(name, document)
            if record is None:
                self._exchanges.pop(key, None)
                raise NotFoundError(f"NOT_FOUND - no exchange '{name}'")
            table = self._caught_up(cached, record)
            if table is None:
                table = self.table_for(record)
                if record.revision:
                    for item in self._store.read(self._store.scan(bindings_prefix(name))):
                        if item.version:
                            table.add(load_binding(item.value))
                    (again,) = self._store.read([key])
                    if again.version != document.version:
                        continue  # A binding moved while they were read one by one.
            cached = _Exchange(record, document.version, table)
            self._exchanges[key] = cached
            return cached

    @staticmethod
    def _caught_up(cached: _Exchange | None, record: ExchangeRecord) -> BindingTable | None:
        """Apply the changes since `cached` to its table; None if it has to be read anew."""
        if cached is None or cached.record.born != record.born:
            return None
        behind = record.revision - cached.record.revision
        if not 0 <= behind <= len(record.log):
            return None
        for sign, value in record.log[len(record.log) - behind :]:
            binding = binding_from_json(value)
            if sign == "+":
                cached.table.add(binding)
            else:
                cached.table.discard(binding)
        return cached.table


def exchange_record(name: str, document: Document) -> ExchangeRecord | None:
    """Return the exchange in a document; the predeclared ones need none."""
    if document.version:
        return load_exchange(document.value)
    if name in PREDECLARED:
        return ExchangeRecord(name, PREDECLARED[name])
    return None
