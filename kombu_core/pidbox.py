"""Mailboxes: commands to running processes, to all of them or some, and their replies."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import uuid4

from kombu_core.clocks import LamportClock
from kombu_core.consumer import Consumer
from kombu_core.declaration import channel_of
from kombu_core.entity import Queue
from kombu_core.exceptions import ConfigurationError, NothingCameError
from kombu_core.exchange import Exchange
from kombu_core.message import Message
from kombu_core.pidbox_node import Node
from kombu_core.producer import Producer

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.pools import ProducerPool
    from kombu_core.transport import Channel

__all__ = ["Mailbox", "Node"]

#: Seconds that a call waits for replies unless it says otherwise.
DEFAULT_TIMEOUT: Final = 10.0
#: Seconds after which an unused queue for replies goes.
REPLY_QUEUE_EXPIRES: Final = 10.0

ReplyCallback = Callable[[Any], object]


class Mailbox:
    """Commands to the nodes of a namespace, and their replies.

        mailbox = Mailbox("workers", type="fanout")(connection)
        mailbox.abcast("reload", {"what": "settings"})
        mailbox.multi_call("ping", timeout=1)  # [{"host1": "pong"}, {"host2": "pong"}]

    What is not delivered is not kept: everything is transient, and goes with its connection.
    Bound to a connection it belongs to one thread at a time.

    Args:
        namespace: What the nodes have in common.
        type: Of the exchange; in any case every node gets every command and looks whether it is
            meant.
        connection: None for one that is bound later, by calling it with a connection.
        clock: Stamps what is sent and steps past the stamps that come.
        accept: Serializers or content types that commands and replies may have.
        serializer: Of commands and replies; None for JSON.
        producer_pool: Where producers come from; None for the channel in use.
        queue_ttl: Seconds that a command waits for its node at most.
        queue_expires: Seconds after which a node's queue goes unless it is used.
        queue_durable: The queues survive a restart of the broker; not together with exclusive.
        queue_exclusive: Only one node can have a name at a time.
        reply_queue_ttl: Seconds that a reply waits at most.
        reply_queue_expires: Seconds after which a queue for replies goes unless it is used.
    """

    node_cls: ClassVar[type[Node]] = Node
    exchange_fmt: ClassVar[str] = "%s.pidbox"
    reply_exchange_fmt: ClassVar[str] = "reply.%s.pidbox"

    #: Serializers that are accepted, unless the constructor says.
    accept: Collection[str] = ("json",)
    serializer: str | None = None

    def __init__(
        self,
        namespace: str,
        type: str = "direct",
        connection: Connection | None = None,
        clock: LamportClock | None = None,
        accept: Collection[str] | None = None,
        serializer: str | None = None,
        producer_pool: ProducerPool | None = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_durable: bool = False,
        queue_exclusive: bool = True,
        reply_queue_ttl: float | None = None,
        reply_queue_expires: float | None = REPLY_QUEUE_EXPIRES,
    ) -> None:
        if queue_exclusive and queue_durable:
            raise ConfigurationError("A queue that is exclusive goes, so it cannot be durable")
        self.namespace = namespace
        self.type = type
        self.connection = connection
        self.clock = LamportClock() if clock is None else clock
        if accept is not None:
            self.accept = accept
        if serializer is not None:
            self.serializer = serializer
        self.producer_pool = producer_pool
        self.queue_ttl = queue_ttl
        self.queue_expires = queue_expires
        self.queue_durable = queue_durable
        self.queue_exclusive = queue_exclusive
        self.reply_queue_ttl = reply_queue_ttl
        self.reply_queue_expires = reply_queue_expires
        self.exchange = _transient_exchange(self.exchange_fmt % namespace, type)
        self.reply_exchange = _transient_exchange(self.reply_exchange_fmt % namespace, "direct")
        self._begin()

    def _begin(self) -> None:
        self._oid = (0, "")
        #: Replies to calls that are being made, by their tickets.
        self.unclaimed: dict[str, deque[Any]] = {}

    def __call__(self, connection: Connection) -> Mailbox:
        """Return a copy that is bound to a connection."""
        bound = copy(self)
        bound.connection = connection
        bound._begin()
        return bound

    def Node(  # noqa: N802 (kombu's name)
        self,
        hostname: str | None = None,
        state: Any = None,
        channel: Channel | None = None,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Node:
        """Make a node of this mailbox; see `Node`. Without a name it has that of the host."""
        return self.node_cls(hostname or socket.gethostname(), state, channel, handlers, self)

    # -- commands --------------------------------------------------------------------------

    def call(
        self,
        destination: Sequence[str],
        command: str,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        callback: ReplyCallback | None = None,
        channel: Channel | None = None,
    ) -> list[Any]:
        """Give a command to some nodes, and return their replies, each as `{node: value}`.

        A handler that raised replies with `{node: {"error": ...}}`.

        Args:
            destination: Names of nodes.
            command: Name of the handler.
            kwargs: Its arguments.
            timeout: Seconds to wait, until each of them replied; None for ever.
            callback: Called with each reply as it comes.
            channel: None for the connection's default one.
        """
        return self.broadcast(command, kwargs, destination, True, timeout, None, callback, channel)

    def multi_call(
        self,
        command: str,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: ReplyCallback | None = None,
        channel: Channel | None = None,
    ) -> list[Any]:
        """Give a command to all nodes, and return the replies that come in time.

        Args:
            command: Name of the handler.
            kwargs: Its arguments.
            timeout: Seconds to wait, if there are not `limit` replies before; None for ever.
            limit: Replies at most; None for as many as come.
            callback: Called with each reply as it comes.
            channel: None for the connection's default one.
        """
        return self.broadcast(command, kwargs, None, True, timeout, limit, callback, channel)

    def cast(
        self, destination: Sequence[str], command: str, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Give a command to some nodes, and wait for no replies."""
        self.broadcast(command, kwargs, destination)

    def abcast(self, command: str, kwargs: Mapping[str, Any] | None = None) -> None:
        """Give a command to all nodes, and wait for no replies."""
        self.broadcast(command, kwargs)

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: ReplyCallback | None = None,
        channel: Channel | None = None,
        serializer: str | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> list[Any]:
        """Give a command to nodes; what all of the above are made of.

        Args:
            command: Name of the handler.
            arguments: Its arguments.
            destination: Names of nodes; None for all, or for those that `pattern` chooses.
            reply: Wait for replies, and return them.
            timeout: Seconds to wait for them; None for ever.
            limit: Replies at most; None for as many as there are destinations, or as come.
            callback: Called with each reply as it comes.
            channel: None for the connection's default one.
            serializer: None for the mailbox's.
            pattern: What the names of nodes have to match.
            matcher: How: `glob`, or `pcre` for a regular expression; None for `glob`.
        """
        if destination is not None:
            destination = _checked(destination)
            limit = limit or len(destination)
        send = partial(
            self._publish,
            command,
            arguments or {},
            destination,
            serializer=serializer,
            pattern=pattern,
            matcher=matcher,
        )
        if not reply:
            send(channel=channel)
            return []
        return self._collect(send, timeout, limit, callback, self._channel(channel))

    # -- queues ----------------------------------------------------------------------------

    def get_queue(self, hostname: str) -> Queue:
        """Return the queue of a node."""
        return Queue(
            f"{hostname}.{self.namespace}.pidbox",
            self.exchange,
            durable=self.queue_durable,
            exclusive=self.queue_exclusive,
            auto_delete=not self.queue_durable,
            expires=self.queue_expires,
            message_ttl=self.queue_ttl,
        )

    def get_reply_queue(self) -> Queue:
        """Return the queue for replies to this mailbox."""
        return Queue(
            f"{self.oid}.{self.reply_exchange.name}",
            self.reply_exchange,
            self.oid,
            durable=self.queue_durable,
            exclusive=self.queue_exclusive,
            auto_delete=not self.queue_durable,
            expires=self.reply_queue_expires,
            message_ttl=self.reply_queue_ttl,
        )

    @property
    def reply_queue(self) -> Queue:
        """The same."""
        return self.get_reply_queue()

    @property
    def oid(self) -> str:
        """What replies to this mailbox are routed by; another one in each process."""
        if self._oid[0] != os.getpid():
            self._oid = (os.getpid(), str(uuid4()))
        return self._oid[1]

    # -- sending ---------------------------------------------------------------------------

    @contextmanager
    def producer_or_acquire(
        self, producer: Producer | None = None, channel: Channel | None = None
    ) -> Iterator[Producer]:
        """A producer: the given one, one of the pool, or a new one on a channel."""
        if producer is not None:
            yield producer
        elif self.producer_pool is not None:
            with self.producer_pool.borrow() as pooled:
                yield pooled
        else:
            yield Producer(self._channel(channel), auto_declare=False)

    def _channel(self, channel: Channel | None) -> Channel:
        if channel is not None:
            return channel
        if self.connection is None:
            raise ConfigurationError(f"The mailbox {self.namespace!r} is not bound to a connection")
        return channel_of(self.connection)

    def _publish(
        self,
        type: str,
        arguments: Mapping[str, Any],
        destination: Sequence[str] | None = None,
        reply_ticket: str | None = None,
        channel: Channel | None = None,
        timeout: float | None = None,
        serializer: str | None = None,
        producer: Producer | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        command: dict[str, Any] = {
            "method": type,
            "arguments": dict(arguments),
            "destination": None if destination is None else list(destination),
            "pattern": pattern,
            "matcher": matcher,
        }
        if reply_ticket:
            command["ticket"] = reply_ticket
            command["reply_to"] = {
                "exchange": self.reply_exchange.name,
                "routing_key": self.oid,
            }
        with self.producer_or_acquire(producer, channel) as sender:
            expires = timeout if sender.channel.transport.capabilities.message_ttl else None
            sender.publish(
                command,
                exchange=self.exchange,
                routing_key="",
                declare=[self.exchange],
                headers={
                    "clock": self.clock.forward(),
                    "expires": time() + timeout if timeout else 0,
                },
                expiration=expires or None,
                serializer=serializer or self.serializer or "json",
                retry=True,
            )

    def publish_reply(
        self,
        reply: Any,
        exchange: str,
        routing_key: str,
        ticket: str | None,
        channel: Channel | None = None,
        producer: Producer | None = None,
        serializer: str | None = None,
    ) -> None:
        """Send a reply. If nobody waits for it any more it is dropped by the broker."""
        target = _transient_exchange(exchange, "direct")
        with self.producer_or_acquire(producer, channel) as sender:
            sender.publish(
                reply,
                exchange=target,
                routing_key=routing_key,
                declare=[target],
                headers={"ticket": ticket, "clock": self.clock.forward()},
                serializer=serializer or self.serializer or "json",
                retry=True,
            )

    # -- collecting ------------------------------------------------------------------------

    def _collect(
        self,
        send: Callable[..., None],
        timeout: float | None,
        limit: int | None,
        callback: ReplyCallback | None,
        channel: Channel,
    ) -> list[Any]:
        """Send a command, and collect what comes back."""
        ticket = str(uuid4())
        deadline = None if timeout is None else monotonic() + timeout
        mine = self.unclaimed[ticket] = deque()
        replies: list[Any] = []
        consumer = Consumer(
            channel, [self.reply_queue], callbacks=[self._on_reply], accept=self.accept, no_ack=True
        )
        try:
            # Consuming before the command is out keeps the queue, which goes when it is unused.
            with consumer:
                send(reply_ticket=ticket, channel=channel, timeout=timeout)
                while not limit or len(replies) < limit:
                    if not mine and not self._drain(channel, deadline):
                        break
                    while mine:
                        replies.append(mine.popleft())
                        if callback is not None:
                            callback(replies[-1])
            return replies
        finally:
            del self.unclaimed[ticket]

    def _drain(self, channel: Channel, deadline: float | None) -> bool:
        """Handle one event; False if nothing came in time."""
        client = channel.transport.client or self.connection
        left = None if deadline is None else deadline - monotonic()
        if client is None or (left is not None and left <= 0):
            return False
        try:
            client.drain_events(timeout=left)
        except NothingCameError:
            return False
        return True

    def _on_reply(self, body: Any, message: Message) -> None:
        clock = message.headers.get("clock")
        self.clock.adjust(clock if isinstance(clock, int) else 0)
        waiting = self.unclaimed.get(str(message.headers.get("ticket")))
        if waiting is not None:  # Otherwise it is late.
            waiting.append(body)

    def __repr__(self) -> str:
        return f"<Mailbox: {self.namespace} ({self.type})>"


def _transient_exchange(name: str, type: str) -> Exchange:
    return Exchange(name, type, durable=False, delivery_mode="transient")


def _checked(destination: Sequence[str]) -> Sequence[str]:
    if isinstance(destination, str) or not isinstance(destination, Sequence):
        raise ConfigurationError(
            f"destination is {destination!r}, not a list or tuple of the names of nodes"
        )
    return destination
