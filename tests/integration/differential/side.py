"""One broker under a random program: does its steps, and tells what an application sees.

Whatever differs between brokers for no reason of the model (names, tags, times) is made equal here;
everything else is reported as it is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from kombu_core import Connection
from kombu_core.exceptions import (
    BatchPublishError,
    ChannelError,
    KombuError,
    NotFoundError,
    OperationTimeoutError,
    ResourceLockedError,
)
from kombu_core.message import Envelope
from kombu_core.message import Message as Received
from kombu_core.transport import Channel, Transport
from kombu_core.virtual.transport import VirtualTransport
from tests.integration.differential import steps
from tests.integration.differential.known import KnownDifferences, Skipped, Subscription

#: Seconds within which acknowledgements are sent, and those of deliveries that need none.
_ON_THE_WAY: Final = 0.02
#: The delivery tag that nothing has.
_UNKNOWN_TAG: Final = 9_999


class Seen(NamedTuple):
    """A delivery as the application sees it."""

    body: str
    exchange: str
    routing_key: str
    redelivered: bool
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]


class Side(KnownDifferences):
    """One broker, and the connections of the application on it; they outlive programs."""

    def __init__(self, kind: str, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self._url = url
        self._options = dict(options or {})
        self._connections: dict[str, Connection] = {}
        self._watchers: dict[str, Channel] = {}
        self.begin("")

    def begin(self, token: str) -> None:
        """Begin a program."""
        self._token = token
        self._names: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._bodies = 0
        self._channels: dict[str, Channel] = {}
        #: Unsettled deliveries by channel, with where they came from.
        self._held: dict[str, list[tuple[str, Received]]] = {}
        self._in_transaction: dict[str, list[tuple[str, Received]]] = {}
        #: What was published in open transactions.
        self._uncommitted: dict[str, list[steps.Message]] = {}
        self._consumers: dict[str, Subscription] = {}
        #: Queues that were declared, and the connection that declared each last.
        self.queues: dict[str, str] = {}
        self._queue_arguments: dict[str, Mapping[str, Any]] = {}
        self.exchanges: set[str] = set()
        self._delivered: dict[str, list[Seen]] = {}
        self._events: list[Any] = []
        self._gone: list[str] = []
        #: A connection was killed: others look for what it left.
        self._has_dead = False
        for connection in ("a", "b") if token else ():
            self._transport(connection)

    # -- names -----------------------------------------------------------------------------

    def name(self, label: str) -> str:
        """Return the real name of an exchange or queue; other words stand for themselves."""
        if label in self._names:
            return self._names[label]
        if len(label) == 2 and label[0] in "eq" and label[1].isdigit():
            return self._call_it(label, f"{label}.{self._token}")
        return label

    def _call_it(self, label: str, name: str) -> str:
        self._names[label] = name
        self._labels[name] = label
        return name

    def arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a queue's arguments with real names."""
        return {
            key: self.name(value) if isinstance(value, str) else value
            for key, value in arguments.items()
        }

    def plain(self, value: Any) -> Any:
        """Return what was seen without what differs for no reason: names, times."""
        if isinstance(value, str):
            return self._labels.get(value, value)
        if isinstance(value, Mapping):
            return {
                key: "a time" if key == "time" and isinstance(item, datetime) else self.plain(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        return value

    def next_body(self, size: int) -> bytes:
        """Return a body that the program has not had."""
        self._bodies += 1
        return f"m{self._bodies}".ljust(size, ".").encode()

    def queue_is_there(self, step: steps.DeclareQueue, name: str) -> None:
        """Note that a declaration went well."""
        if self._names.get(step.queue) != name:
            self._call_it(step.queue, name)
        self.queues[step.queue] = step.channel[0]
        if not step.passive:
            self._queue_arguments[step.queue] = step.arguments

    def exchange_is_there(self, label: str) -> None:
        """Note that a declaration went well."""
        self.exchanges.add(label)

    # -- connections and channels ----------------------------------------------------------

    def _transport(self, connection: str) -> Transport:
        if connection not in self._connections:
            self._connections[connection] = Connection(self._url, transport_options=self._options)
        return self._connections[connection].transport

    def open(self, label: str) -> Channel:
        """Return a channel of the program, a new one if it was closed."""
        channel = self._channels.get(label)
        if channel is None or not channel.is_open:
            self.forget(label)
            self._in_transaction.pop(label, None)
            self._uncommitted.pop(label, None)
            channel = self._channels[label] = self._transport(label[0]).channel()
            if label == "b0":  # The other way to learn of what comes back.
                channel.set_return_callback(self._returned)
        return channel

    def is_open(self, label: str) -> bool:
        """Whether a channel of the program is open."""
        return label in self._channels and self._channels[label].is_open

    def _returned(self, envelope: Envelope, code: int, text: str) -> None:
        self._events.append(
            ("returned", code, envelope.body.decode(), self.plain(envelope.exchange))
        )

    def close_connection(self, label: str, *, kill: bool) -> None:
        """End a connection, in good order or as if its process died."""
        connection = self._connections[label]
        transport = connection.transport
        if kill:
            self.may_die()
            time.sleep(_ON_THE_WAY)
        if kill and isinstance(transport, VirtualTransport):
            self._let_lease_end(transport)
        elif kill:
            link: socket.socket = transport.wire._socket  # type: ignore[attr-defined]
            link.shutdown(socket.SHUT_RDWR)
        connection.release()
        del self._connections[label]
        for name in [name for name in self._channels if name[0] == label]:
            self.forget(name)
            del self._channels[name]
        for key in [key for key, channel in self._watchers.items() if key == label]:
            del self._watchers[key]

    def _let_lease_end(self, transport: VirtualTransport) -> None:
        """What becomes of a process that is killed, without the wait for its lease."""
        parts = transport.parts
        parts.session.stop()
        parts.broker.store.renew(parts.session.id, 1e-3)
        transport.forked()  # It forgets the session, and does not end it.
        self._has_dead = True

    # -- deliveries ------------------------------------------------------------------------

    def seen(self, message: Received) -> Seen:
        """Return a delivery in comparable form."""
        return Seen(
            message.body.decode(),
            self.plain(message.envelope.exchange),
            self.plain(message.envelope.routing_key),
            message.redelivered,
            self.plain(dict(message.properties)),
            self.plain(message.headers),
        )

    def hold(self, channel: str, source: str, message: Received) -> None:
        """Note a delivery that has to be settled."""
        self._held.setdefault(channel, []).append((source, message))

    def forget(self, channel: str) -> None:
        """Forget what a channel holds."""
        self._held.pop(channel, None)

    def release(self, channel: str, which: int, multiple: bool) -> tuple[int, bool]:
        """Choose a delivery to settle: its tag, and whether all before it go with it.

        On one channel the order between deliveries from several queues is nobody's promise, so
        `multiple` takes all there are then.
        """
        if which == steps.UNKNOWN:
            return _UNKNOWN_TAG, False
        held = sorted(self._held.get(channel, ()), key=lambda item: (item[0], item[1].delivery_tag))
        if not held:
            raise Skipped
        chosen = held[which % len(held)]
        if multiple and len({source for source, _ in held}) > 1:
            chosen = max(held, key=lambda item: item[1].delivery_tag)
        tag = chosen[1].delivery_tag
        taken = [
            item
            for item in held
            if item[1].delivery_tag == tag or (multiple and item[1].delivery_tag < tag)
        ]
        self._held[channel] = [item for item in held if item not in taken]
        if channel in self._in_transaction:
            self._in_transaction[channel] += taken
        return tag, multiple

    def transact(self, channel: str, what: str) -> None:
        """Keep the books of a transaction."""
        if what == "rollback":
            self._held.setdefault(channel, []).extend(self._in_transaction.get(channel, ()))
        if what != "select" or channel not in self._in_transaction:
            self._in_transaction[channel] = []
            self._uncommitted.pop(channel, None)

    def consume(self, step: steps.Consume) -> None:
        """Subscribe, unless it is a known difference who gets what."""
        if self._is_consuming(step.consumer):
            raise Skipped
        arguments = self._queue_arguments.get(step.queue, {})
        if arguments.get("x-max-length") == 0 or "x-max-length-bytes" in arguments:
            raise Skipped
        there = [
            other.step
            for label, other in self._consumers.items()
            if other.step.queue == step.queue and self._is_consuming(label)
        ]
        if not arguments.get("x-single-active-consumer") and any(
            one.channel[0] != step.channel[0] and not one.exclusive for one in there
        ):
            raise Skipped  # Precedence between connections is settled in a moment, not at once.
        if not step.exclusive and any(
            (one.priority or 0) == (step.priority or 0) for one in there if not one.exclusive
        ):
            raise Skipped
        channel = self.open(step.channel)

        def take(message: Received) -> None:
            self._delivered.setdefault(step.consumer, []).append(self.seen(message))
            if not step.no_ack:
                self.hold(step.channel, step.consumer, message)

        arguments = {} if step.priority is None else {"x-priority": step.priority}
        channel.basic_consume(
            self.name(step.queue),
            take,
            consumer_tag=f"{step.consumer}.{self._token}",
            no_ack=step.no_ack,
            exclusive=step.exclusive,
            arguments=arguments,
            on_cancel=lambda tag: self._cancelled(step.consumer),
        )
        self._consumers[step.consumer] = Subscription(step, channel)

    def await_verdict(self, channel: str, messages: Sequence[steps.Message]) -> None:
        """In a transaction, see what the broker has to say of a publish."""
        if channel in self._in_transaction:
            self._uncommitted.setdefault(channel, []).extend(messages)
            self._channels[channel].exchange_declare("amq.direct", passive=True)

    def _cancelled(self, label: str) -> None:
        self._consumers.pop(label, None)
        self._gone.append(label)

    def cancel(self, label: str) -> None:
        """End a subscription."""
        if not self._is_consuming(label):
            raise Skipped
        consumer = self._consumers.pop(label)
        consumer.channel.basic_cancel(f"{label}.{self._token}")

    # -- doing and observing ---------------------------------------------------------------

    def do(self, step: steps.Step) -> Any:
        """Do a step; returns what came of it, in comparable form."""
        self._delivered.clear()
        self._events.clear()
        self._gone.clear()
        try:
            outcome: tuple[Any, ...] = ("returned", step.do(self))
        except Skipped:
            return ("skipped",)
        except KombuError as error:
            code = error.code if isinstance(error, ChannelError) else None
            outcome = ("raised", (type(error).__name__, code, self._failed(step, error)))
        if isinstance(step, steps.OnChannel):
            outcome += (("open", self.is_open(step.channel)),)
        return outcome

    def _failed(self, step: steps.Step, error: KombuError) -> list[int]:
        """Return which messages of a batch were not stored, if that can be known.

        Where the channel was closed, RabbitMQ does not say what became of those before.
        """
        is_known = isinstance(step, steps.PublishBatch) and self.is_open(step.channel)
        return sorted(error.failed) if isinstance(error, BatchPublishError) and is_known else []

    def observe(self, *, counts: bool = True) -> dict[str, Any]:
        """Return what the application sees now; what came since the step began adds up."""
        if self._has_dead:
            for connection in ("a", "b"):
                transport = self._transport(connection)
                if isinstance(transport, VirtualTransport):
                    transport.parts.session.reap()
        self._drain()
        return {
            "queues": {label: self._count(label) for label in sorted(self.queues) if counts},
            "delivered": {label: list(items) for label, items in sorted(self._delivered.items())},
            "events": list(self._events),
            # In any order: they are consumers of one queue that was deleted.
            "cancelled": sorted(self._gone),
        }

    def drop_what_is_gone(self) -> None:
        """Stop watching queues that are gone, now that all agree about it."""
        for label in [label for label in self.queues if self._count(label) == "absent"]:
            del self.queues[label]

    def _drain(self) -> None:
        connections = {
            consumer.step.channel[0]
            for label, consumer in self._consumers.items()
            if self._is_consuming(label)
        }
        for label in sorted(connections):
            transport = self._transport(label)
            try:
                while True:
                    transport.drain_events(timeout=0)
            except OperationTimeoutError:
                continue
            except KombuError as error:
                self._events.append(("draining raised", type(error).__name__))

    def _count(self, label: str) -> Any:
        """Return how many messages and consumers a queue has, by whoever may look."""
        owner = self.queues[label]
        for connection in (owner, "b" if owner == "a" else "a"):
            try:
                found = self._watcher(connection).queue_declare(self.name(label), passive=True)
            except NotFoundError:
                return "absent"
            except ResourceLockedError:
                continue
            return found.message_count, found.consumer_count
        return "locked"

    def _watcher(self, connection: str) -> Channel:
        channel = self._watchers.get(connection)
        if channel is None or not channel.is_open:
            channel = self._watchers[connection] = self._transport(connection).channel()
        return channel

    # -- the end of a program --------------------------------------------------------------

    def leave(self) -> None:
        """Close the channels of the program, so that everything is back in its queue.

        Without consumers: whether one has time to get what comes back, is nobody's promise.
        """
        for label, consumer in self._consumers.items():
            if self._is_consuming(label):
                consumer.channel.basic_cancel(f"{label}.{self._token}")
        for channel in self._channels.values():
            channel.close()
        self._consumers.clear()
        self._held.clear()
        self._delivered.clear()
        self._events.clear()
        self._gone.clear()

    def contents(self, label: str) -> list[Seen]:
        """Take everything out of a queue."""
        channel = self._watcher(self.queues[label])
        found = []
        while (message := channel.basic_get(self.name(label), no_ack=True)) is not None:
            found.append(self.seen(message))
        return found

    def clean(self) -> None:
        """Delete what was made. Whatever may be left is in nobody's way: names are never reused."""
        for channel in self._channels.values():
            channel.close()
        for label, owner in self.queues.items():
            with suppress(ChannelError):
                self._watcher(owner).queue_delete(self.name(label))
        for label in self.exchanges:
            self._watcher("a").exchange_delete(self.name(label))

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections.values():
            connection.release()
        self._connections.clear()
        self._watchers.clear()
