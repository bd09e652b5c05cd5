"""Receiving as iteration: loops over a connection's events, over messages, and over replies."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from kombu_core.consumer import Callback, Consumer
from kombu_core.exceptions import ConfigurationError, NothingCameError
from kombu_core.message import Message
from kombu_core.serialization import Registry, default_registry

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.entity import Exchange, Queue
    from kombu_core.producer import Producer
    from kombu_core.transport import Channel

__all__ = ["collect_replies", "drain_consumer", "eventloop", "itermessages", "send_reply"]

#: Serializers whose bodies are one type only; an answer to such a message may be of another.
_PLAIN = ("text", "raw")


def eventloop(
    conn: Connection,
    limit: int | None = None,
    timeout: float | None = None,
    ignore_timeouts: bool = False,
) -> Iterator[None]:
    """Drain a connection's events, one for each step; blocks in between.

    Args:
        conn: Belongs to this loop while it runs.
        limit: Steps; None or 0 for no end.
        timeout: Seconds to wait for each event; None waits until one comes.
        ignore_timeouts: A step may also end because nothing came.

    Raises:
        OperationTimeoutError: Nothing came, unless `ignore_timeouts`.
        ConnectionLostError: The broker went away.
    """
    for _ in range(limit) if limit else itertools.count():
        try:
            conn.drain_events(timeout=timeout)
        except NothingCameError:
            if not ignore_timeouts:
                raise
        yield


def drain_consumer(
    consumer: Consumer,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: Iterable[Callback] | None = None,
) -> Iterator[tuple[Any, Message]]:
    """Consume, and yield (body, message) for what comes.

    Messages that came and were not asked for, because the loop over them was left, stay
    unacknowledged until the channel is closed.

    Args:
        consumer: Its callbacks are replaced.
        limit: Messages at most; None or 0 for no end.
        timeout: Seconds without a message after which it ends, without an error; None for never.
        callbacks: Called with each (body, message) before it is yielded.

    Raises:
        ConnectionLostError: The broker went away.
    """
    received: deque[tuple[Any, Message]] = deque()
    consumer.callbacks = [
        *(callbacks or ()),
        lambda body, message: received.append((body, message)),
    ]
    client = _client_of(consumer.channel)
    with consumer:
        for _ in range(limit) if limit else itertools.count():
            deadline = None if timeout is None else monotonic() + timeout
            while not received:
                left = None if deadline is None else max(0.0, deadline - monotonic())
                try:
                    client.drain_events(timeout=left)
                except NothingCameError:
                    return
                if left == 0.0 and not received:
                    return
            yield received.popleft()


def itermessages(
    conn: Connection,
    channel: Channel | None,
    queue: Queue,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: Iterable[Callback] | None = None,
    **options: Any,
) -> Iterator[tuple[Any, Message]]:
    """Yield (body, message) for what comes to a queue; see `drain_consumer`.

    Args:
        conn: Belongs to this loop while it runs.
        channel: None for the connection's default one.
        queue: Declared first.
        limit: Messages at most; None or 0 for no end.
        timeout: Seconds without a message after which it ends; None for never.
        callbacks: Called with each (body, message) before it is yielded.
        **options: Of the `Consumer`, as `no_ack` or `accept`.
    """
    consumer = conn.Consumer(queues=[queue], channel=channel, **options)
    return drain_consumer(consumer, limit=limit, timeout=timeout, callbacks=callbacks)


def collect_replies(
    conn: Connection,
    channel: Channel | None,
    queue: Queue,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: Iterable[Callback] | None = None,
    no_ack: bool = True,
    **options: Any,
) -> Iterator[Any]:
    """Yield the bodies of what comes to a reply queue; arguments as `itermessages`.

    With `no_ack` false, each message is acknowledged before its body is yielded.
    """
    for body, message in itermessages(
        conn, channel, queue, limit, timeout, callbacks, no_ack=no_ack, **options
    ):
        if not no_ack:
            message.ack()
        yield body


def send_reply(
    exchange: Exchange | str,
    req: Message,
    msg: Any,
    producer: Producer | None = None,
    retry: bool = False,
    retry_policy: dict[str, Any] | None = None,
    **props: Any,
) -> None:
    """Answer a message: to the `reply_to` that it names, with its `correlation_id`.

    Blocks until the broker has the answer, like `Producer.publish`, whose errors it raises.

    Args:
        exchange: Where to; "" for the default exchange, which knows queues by their names.
        req: The message, with the property `reply_to`.
        msg: The answer; written by the serializer of `req` unless that one is for plain text or
            bytes only.
        producer: None for one on the connection of `req`.
        retry: See `Producer.publish`.
        retry_policy: See there.
        **props: More arguments of `publish`, over all of these.

    Raises:
        KeyError: `req` names no `reply_to`.
    """
    producer = _client_of(req.channel).Producer() if producer is None else producer
    options: dict[str, Any] = {
        "routing_key": req.properties["reply_to"],
        "correlation_id": req.properties.get("correlation_id"),
        "serializer": _serializer_of(req.content_type, req.registry),
        **props,
    }
    producer.publish(msg, exchange=exchange, retry=retry, retry_policy=retry_policy, **options)


def _serializer_of(content_type: str | None, registry: Registry = default_registry) -> str | None:
    for name in registry.names:
        accepted = registry.resolve_accept([name]) or ()
        if name not in _PLAIN and content_type in accepted:
            return name
    return None


def _client_of(channel: Channel) -> Connection:
    client = channel.transport.client
    if client is None:
        raise ConfigurationError("The channel was not made by a Connection, so nothing drains it")
    return client
