"""Creating, binding and deleting exchanges and queues: AMQP's rules as document transactions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from kombu_core.exceptions import AccessRefusedError, NotFoundError, PreconditionFailedError
from kombu_core.virtual.directory import Changes, Directory, exchange_record
from kombu_core.virtual.policy import policy_of
from kombu_core.virtual.routing import Binding, Destination
from kombu_core.virtual.store import Document, Drop, NotEmpty, Store
from kombu_core.virtual.topology import (
    ConsumerRecord,
    ExchangeRecord,
    QueueRecord,
    binding_key,
    bindings_prefix,
    check_access,
    check_equivalent,
    check_name_is_free,
    check_not_default,
    consumers_key,
    dump,
    exchange_key,
    expiry_session,
    load_binding,
    load_consumers,
    load_queue,
    make_binding,
    queue_key,
    session_mark,
)


class Declarations:
    """Changes the topology for one session. Thread-safe; a few round trips in each method."""

    def __init__(self, store: Store, directory: Directory, session: str) -> None:
        self._store = store
        self._directory = directory
        self._session = session

    # -- exchanges -------------------------------------------------------------------------

    def declare_exchange(self, wanted: ExchangeRecord) -> None:
        """Create an exchange, or check that the one that is there is equal."""
        check_not_default(wanted.name)
        alternate = wanted.arguments.get("alternate-exchange", "")
        if not isinstance(alternate, str):
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - invalid arg 'alternate-exchange' for exchange "
                f"'{wanted.name}': a name is wanted, not {type(alternate).__name__}"
            )
        self._directory.table_for(wanted)

        def decide(documents: list[Document]) -> Changes | None:
            there = exchange_record(wanted.name, documents[0])
            if there is not None:
                check_equivalent(there, wanted)
                return None
            check_name_is_free("exchange", wanted.name)
            created = replace(wanted, born=secrets.token_hex(8))
            return Changes({exchange_key(wanted.name): dump(created)})

        self._directory.change([exchange_key(wanted.name)], decide)

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with its bindings, to it and from it."""
        check_not_default(name)
        check_name_is_free("exchange", name)
        while True:
            try:
                there = self._directory.exchange(name)
            except NotFoundError:
                return
            leaving = self._bindings_of(name)
            if leaving and if_unused:
                raise PreconditionFailedError(f"PRECONDITION_FAILED - exchange '{name}' in use")
            if self._delete_exchange(there, leaving):
                break
        for source in there.sources:
            self._delete_if_abandoned(source)

    def _bindings_of(self, exchange: str) -> list[Binding]:
        keys = self._store.scan(bindings_prefix(exchange))
        return [load_binding(item.value) for item in self._store.read(keys) if item.version]

    def _delete_exchange(self, there: ExchangeRecord, leaving: list[Binding]) -> bool:
        """Delete it if it is still as it was read; False if not."""
        destination = Destination("exchange", there.name)
        reached = {binding.destination for binding in leaving} - {destination}
        targets = [_destination_key(place) for place in reached]

        def decide(documents: list[Document]) -> Changes | None:
            now = exchange_record(there.name, documents[0])
            if now != there:
                return None
            changes: dict[str, bytes | None] = {exchange_key(there.name): None}
            for binding in leaving:
                changes[binding_key(there.name, binding)] = None
            for document in documents[1 : 1 + len(targets)]:
                record = _destination_record(document)
                if record is not None:
                    sources = tuple(name for name in record.sources if name != there.name)
                    changes[document.key] = dump(replace(record, sources=sources))
            return Changes(changes)

        for source in there.sources:
            for binding in self._directory.bindings(source, destination):
                self._remove_binding(source, binding)
        if there.name in there.sources:
            there = self._directory.exchange(there.name)  # It was bound to itself.
        return self._directory.change([exchange_key(there.name), *targets], decide) is not None

    def _delete_if_abandoned(self, name: str) -> None:
        """Delete an auto-delete exchange that has no bindings any more."""
        try:
            there = self._directory.exchange(name)
        except NotFoundError:
            return
        if there.auto_delete and not self._store.scan(bindings_prefix(name)):
            self._delete_exchange(there, [])

    # -- queues ----------------------------------------------------------------------------

    def declare_queue(self, wanted: QueueRecord, check: Callable[[], object]) -> str:
        """Create a queue, or check that the one that is there is equal; returns its name.

        `check` is called before one is created, and refuses arguments that make no sense. Whatever
        is there already comes first, as on RabbitMQ: to be locked, or not to be equal.
        """
        if wanted.name:
            name = wanted.name
            check_name_is_free("queue", name)
        else:
            name = f"amq.gen-{secrets.token_urlsafe(16)}"
            wanted = replace(wanted, name=name)

        def decide(documents: list[Document]) -> Changes | None:
            if documents[0].version:
                there = load_queue(documents[0].value)
                check_access(there, self._session, declares=wanted.owner)
                check_equivalent(there, wanted)
                return None
            check()
            changes = {queue_key(name): dump(wanted)}
            if "x-expires" in wanted.arguments:
                changes[session_mark(expiry_session(name), "queue", name)] = b"1"
            if wanted.owner:
                changes[session_mark(wanted.owner, "queue", name)] = b"1"
            return Changes(changes)

        self._directory.change([queue_key(name)], decide)
        return name

    def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with its bindings and messages; returns how many were ready."""
        while True:
            try:
                there = self._directory.queue(name)
            except NotFoundError:
                return 0
            destination = Destination("queue", name)
            incoming = {
                source: self._directory.bindings(source, destination) for source in there.sources
            }
            dropped = self._delete_queue(there, incoming, if_unused=if_unused, if_empty=if_empty)
            if dropped is not None:
                break
        for source in there.sources:
            self._delete_if_abandoned(source)
        return dropped

    def _delete_queue(
        self,
        there: QueueRecord,
        incoming: Mapping[str, list[Binding]],
        *,
        if_unused: bool,
        if_empty: bool,
    ) -> int | None:
        """Delete it if it is still bound as it was read; None if not."""
        name = there.name

        def decide(documents: list[Document]) -> Changes | None:
            queue, consumers, *sources = documents
            if not queue.version or load_queue(queue.value) != there:
                return None
            consuming = load_consumers(consumers.value)
            if if_unused and consuming:
                raise PreconditionFailedError(f"PRECONDITION_FAILED - queue '{name}' in use")
            changes: dict[str, bytes | None] = {queue.key: None}
            if "x-expires" in there.arguments:
                changes[session_mark(expiry_session(name), "queue", name)] = None
            if consumers.version:
                changes[consumers.key] = None
            if there.owner:
                changes[session_mark(there.owner, "queue", name)] = None
            for consumer in consuming:
                changes[session_mark(consumer.session, "consumers", name)] = None
            for source, document in zip(incoming, sources, strict=True):
                record = exchange_record(source, document)
                if record is None:
                    if incoming[source]:
                        return None
                    continue  # It was unbound, then deleted.
                changes[document.key] = dump(record.changed("-", *incoming[source]))
                for binding in incoming[source]:
                    changes[binding_key(source, binding)] = None
            return Changes(changes, [Drop(name, if_empty)])

        keys = [queue_key(name), consumers_key(name), *map(exchange_key, incoming)]
        try:
            result = self._directory.change(keys, decide)
        except NotEmpty:
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - queue '{name}' not empty"
            ) from None
        return None if result is None else result.dropped[0]

    # -- bindings --------------------------------------------------------------------------

    def bind(
        self,
        source: str,
        destination: Destination,
        routing_key: str,
        arguments: Mapping[str, Any] | None,
    ) -> None:
        """Add a binding; an equal one may be there already."""
        self._check_bindable(source, destination)
        binding = make_binding(destination, routing_key, arguments)
        key = binding_key(source, binding)
        keys = [exchange_key(source), _destination_key(destination), key]

        def decide(documents: list[Document]) -> Changes | None:
            record = exchange_record(source, documents[0])
            target = _destination_record(documents[1], destination)
            if record is None:
                raise NotFoundError(f"NOT_FOUND - no exchange '{source}'")
            if target is None:
                raise NotFoundError(f"NOT_FOUND - no {destination.kind} '{destination.name}'")
            self._directory.table_for(record).validate(binding)
            if isinstance(target, QueueRecord):
                check_access(target, self._session)
            if documents[2].version:
                return None
            if record.name == target.name and isinstance(target, ExchangeRecord):
                target = record  # An exchange that is bound to itself is one document.
            changes: dict[str, bytes | None] = {key: dump(binding)}
            if source not in target.sources:
                target = replace(target, sources=(*target.sources, source))
                changes[documents[1].key] = dump(target)
                if isinstance(target, ExchangeRecord) and target.name == source:
                    record = target
            changes[documents[0].key] = dump(record.changed("+", binding))
            return Changes(changes)

        self._directory.change(keys, decide)

    def unbind(
        self,
        source: str,
        destination: Destination,
        routing_key: str,
        arguments: Mapping[str, Any] | None,
    ) -> None:
        """Remove a binding if it is there."""
        self._check_bindable(source, destination)
        binding = make_binding(destination, routing_key, arguments)
        if self._remove_binding(source, binding, is_asked_for=True):
            self._delete_if_abandoned(source)

    def _remove_binding(self, source: str, binding: Binding, *, is_asked_for: bool = False) -> bool:
        """Remove a binding; False if there is none.

        Only if there is one, it matters whose the queue is (as RabbitMQ).
        """
        key = binding_key(source, binding)
        destination = binding.destination

        def decide(documents: list[Document]) -> Changes | None:
            record = exchange_record(source, documents[0])
            if record is None or not documents[1].version:
                return None
            if is_asked_for and destination.kind == "queue" and documents[2].version:
                check_access(load_queue(documents[2].value), self._session)
            return Changes({key: None, documents[0].key: dump(record.changed("-", binding))})

        keys = [exchange_key(source), key, _destination_key(destination)]
        return self._directory.change(keys, decide) is not None

    @staticmethod
    def _check_bindable(source: str, destination: Destination) -> None:
        check_not_default(source)
        if destination.kind == "exchange":
            check_not_default(destination.name)

    # -- consumers -------------------------------------------------------------------------

    def add_consumer(self, queue: str, consumer: ConsumerRecord) -> None:
        """Register a consumer of a queue.

        Raises:
            NotFoundError: There is no such queue.
            ResourceLockedError: It is exclusive to another connection.
            AccessRefusedError: It has an exclusive consumer, or this one wants to be it (403).
        """

        def decide(documents: list[Document]) -> Changes | None:
            if not documents[0].version:
                raise NotFoundError(f"NOT_FOUND - no queue '{queue}'")
            record = load_queue(documents[0].value)
            check_access(record, self._session)
            if consumer.exclusive and policy_of(record.arguments).single_active_consumer:
                raise AccessRefusedError(
                    f"ACCESS_REFUSED - queue '{queue}' has a single active consumer, which "
                    "excludes exclusive ones"
                )
            there = load_consumers(documents[1].value)
            if there and (consumer.exclusive or any(other.exclusive for other in there)):
                raise AccessRefusedError(f"ACCESS_REFUSED - queue '{queue}' in exclusive use")
            mark = session_mark(consumer.session, "consumers", queue)
            place = len(there)
            if policy_of(record.arguments).single_active_consumer:
                # The first one stays active; next is the highest, whenever it came (RabbitMQ).
                while place > 1 and there[place - 1].priority < consumer.priority:
                    place -= 1
            there.insert(place, consumer)
            return Changes({documents[1].key: dump(there), mark: b"1"})

        self._directory.change([queue_key(queue), consumers_key(queue)], decide)

    def remove_consumers(
        self, queue: str, session: str, consumer: tuple[int, str] | None = None
    ) -> None:
        """Forget one consumer of a session (channel and tag), or all of them.

        The last consumer takes an auto-delete queue along.
        """
        is_abandoned = False

        def decide(documents: list[Document]) -> Changes | None:
            nonlocal is_abandoned
            there = load_consumers(documents[1].value)
            left = [
                other
                for other in there
                if other.session != session or consumer not in (None, (other.channel, other.tag))
            ]
            is_abandoned = (
                not left
                and len(left) < len(there)
                and bool(documents[0].version)
                and load_queue(documents[0].value).auto_delete
            )
            changes: dict[str, bytes | None] = {}
            if len(left) < len(there):
                changes[documents[1].key] = dump(left) if left else None
            if not any(other.session == session for other in left):
                changes[session_mark(session, "consumers", queue)] = None
            return Changes(changes)

        self._directory.change([queue_key(queue), consumers_key(queue)], decide)
        if is_abandoned:
            try:
                self.delete_queue(queue, if_unused=True)
            except PreconditionFailedError:
                return  # Somebody began to consume in between.

    def mark_blocked(self, queue: str, session: str, blocked: Collection[tuple[int, str]]) -> None:
        """Note which consumers (channel and tag) of a session cannot take more."""

        def decide(documents: list[Document]) -> Changes | None:
            there = load_consumers(documents[0].value)
            now = [
                replace(record, is_blocked=(record.channel, record.tag) in blocked)
                if record.session == session
                else record
                for record in there
            ]
            return None if now == there else Changes({documents[0].key: dump(now)})

        self._directory.change([consumers_key(queue)], decide)

    def consumers(self, queue: str) -> list[ConsumerRecord]:
        """Return the consumers of a queue, in the order in which they came."""
        return load_consumers(self._store.read([consumers_key(queue)])[0].value)


def _destination_key(destination: Destination) -> str:
    make = queue_key if destination.kind == "queue" else exchange_key
    return make(destination.name)


def _destination_record(
    document: Document, destination: Destination | None = None
) -> QueueRecord | ExchangeRecord | None:
    if document.key.startswith("queue/"):
        return load_queue(document.value) if document.version else None
    name = destination.name if destination else ""
    return exchange_record(name, document) if name or document.version else None
