"""The outbox: messages for another broker that wait in a queue of a database, and their relay.

What is published in the application's own transaction waits in a queue of that database; the relay
moves it to the other broker, at least once, and each message keeps its `message_id` however often
it is sent. The plugins for databases publish into it; this is what they have in common.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from kombu_core.connection import Connection
from kombu_core.entity import Queue
from kombu_core.exceptions import (
    BatchPublishError,
    ChannelError,
    ConfigurationError,
    KombuError,
    NotFoundError,
    OperationalError,
    OperationTimeoutError,
)
from kombu_core.message import Envelope, Message, Properties
from kombu_core.transport import Publication

logger = logging.getLogger(__name__)

#: The queue, unless another one is named.
DEFAULT_OUTBOX: Final = "kombu.outbox"
#: What is added to the queue's name for messages that the other broker does not take.
FAILED: Final = ".failed"

#: Where the message is to go, while it is in the outbox.
_EXCHANGE: Final = "x-outbox-exchange"
_ROUTING_KEY: Final = "x-outbox-routing-key"
#: Its time to live begins at the other broker.
_EXPIRATION: Final = "x-outbox-expiration"
#: Nobody has to want it there.
_OPTIONAL: Final = "x-outbox-optional"
_OWN: Final = frozenset({_EXCHANGE, _ROUTING_KEY, _EXPIRATION, _OPTIONAL})
#: Why it was not taken.
_REASON: Final = "x-outbox-reason"

#: Seconds without a message after which the relay looks whether it is to stop.
_SLICE: Final = 0.5
#: Seconds before the next try when the other broker is away.
_PAUSE: Final = 1.0


def addressed(
    headers: Mapping[str, Any] | None,
    exchange: str,
    routing_key: str,
    expiration: float | None = None,
    *,
    mandatory: bool = True,
) -> dict[str, Any]:
    """Return a message's headers with where it is to go at the other broker.

    Args:
        headers: The application's.
        exchange: At the other broker, which has to have it by the time that it is sent.
        routing_key: At the other broker.
        expiration: Seconds until it dies unread at the other broker.
        mandatory: Some queue has to want it there; else it is not taken.
    """
    found = {**(headers or {}), _EXCHANGE: exchange, _ROUTING_KEY: routing_key}
    if expiration is not None:
        found[_EXPIRATION] = str(round(expiration * 1000))
    if not mandatory:
        found[_OPTIONAL] = True
    return found


def relay(
    source: Connection,
    target: Connection,
    name: str = DEFAULT_OUTBOX,
    *,
    batch: int = 100,
    until_empty: bool = False,
    stop: threading.Event | None = None,
) -> int:
    """Move what comes into an outbox to another broker, in order, until it is told to stop.

    A message leaves the outbox after the other broker has confirmed it. If this process dies in
    between, it is sent again. What the other broker does not take for a reason that no repetition
    would remove, as an exchange that is not there or a routing key that no queue wants, goes to the
    queue `NAME.failed` with the reason in a header. If one of the two cannot be reached, the relay
    waits and tries again.

    The order is not kept by several at once, nor by one that follows one that was killed: what that
    one had comes back within its lease, behind what was sent meanwhile.

    Args:
        source: To the database.
        target: To any broker.
        name: Of the outbox.
        batch: Messages that are sent together, at most.
        until_empty: Return when nothing is ready: what another relay has, or a killed one had until
            its lease runs out, is not waited for.
        stop: Return soon after it was set.

    Returns:
        How many were moved.
    """
    moved = 0
    waiting: list[Message] = []
    stop = stop or threading.Event()
    for queue in (name, name + FAILED):
        Queue(queue)(source).declare()
    with source.Consumer([Queue(name)], on_message=waiting.append, prefetch_count=batch):
        while not stop.is_set():
            try:
                source.connect()  # If it was lost; then it consumes again, too.
                is_idle = not _collect(source, waiting, batch, 0.05 if until_empty else _SLICE)
                if is_idle and until_empty:
                    break
                sent = _send(source, target, name, waiting) if waiting else 0
            except OperationalError as error:
                # What was received over a lost connection comes again over the next one.
                logger.warning("The relay of %s tries again: %s", name, error)
                waiting.clear()
                sent = 0
                is_idle = False
            moved += sent
            if not sent and not is_idle:
                stop.wait(_PAUSE)
    return moved


def check_relay(source: Connection, target: Connection, name: str = DEFAULT_OUTBOX) -> None:
    """Find out before the first message comes whether `relay` can move it; connects both.

    A broker that may come back, and an outbox that is not there yet, are only warned of.

    Args:
        source: To the database.
        target: To any broker.
        name: Of the outbox.

    Raises:
        KombuError: No message could be moved, however often it were tried: the transport is not
            installed, the login is refused, or source and target are the same.
    """
    if source.url == target.url:
        raise ConfigurationError("The outbox and its target are the same broker")
    try:
        target.connect()
    except KombuError as error:
        if not error.is_retryable:
            raise
        logger.warning("The target of the outbox cannot be reached yet: %s", error)
    try:
        with source.channel() as channel:
            Queue(name)(channel).queue_declare(passive=True)
    except NotFoundError:
        logger.warning("There was no outbox %s; it is made now", name)


def _collect(source: Connection, waiting: list[Message], batch: int, timeout: float) -> bool:
    """Wait for a message, and take what came with it; False if nothing waits."""
    try:
        source.drain_events(timeout=0 if waiting else timeout)
        while len(waiting) < batch:
            source.drain_events(timeout=0)
    except OperationTimeoutError:
        pass
    return bool(waiting)


def _send(source: Connection, target: Connection, name: str, waiting: list[Message]) -> int:
    """Send what waits and settle it; what may be sent later stays. Returns how many were moved."""
    failed: Mapping[int, Exception] = {}
    try:
        target.default_channel.basic_publish_batch(
            [_publication(message.envelope) for message in waiting]
        )
    except BatchPublishError as error:
        failed = error.failed
    except KombuError as error:
        if not error.is_retryable:
            raise
        logger.warning("The outbox waits, its target cannot be reached: %s", error)
        return 0
    moved = 0
    later: list[Message] = []
    for position, message in enumerate(waiting):
        reason = failed.get(position)
        if isinstance(reason, ChannelError):
            # It ended the batch, so the others after it failed for no reason of their own.
            reason = _sent_alone(target, message)
        if reason is None:
            message.ack()
            moved += 1
        elif getattr(reason, "is_retryable", False):
            later.append(message)
        else:
            _park(source, name, message, reason)
    waiting[:] = later
    return moved


def _sent_alone(target: Connection, message: Message) -> Exception | None:
    try:
        target.default_channel.basic_publish_batch([_publication(message.envelope)])
    except BatchPublishError as error:
        return error.failed[0]
    except KombuError as error:
        return error
    return None


def _publication(envelope: Envelope) -> Publication:
    """Return the message as it was meant for the other broker."""
    headers = {key: value for key, value in envelope.headers.items() if key not in _OWN}
    properties: Properties = {**envelope.properties}
    if _EXPIRATION in envelope.headers:
        properties["expiration"] = envelope.headers[_EXPIRATION]
    restored = Envelope(
        envelope.body,
        properties,
        headers,
        str(envelope.headers.get(_EXCHANGE, "")),
        str(envelope.headers.get(_ROUTING_KEY, "")),
    )
    return Publication(restored, mandatory=not envelope.headers.get(_OPTIONAL))


def _park(source: Connection, name: str, message: Message, error: Exception) -> None:
    logger.error("A message of the outbox %s was not taken: %s", name, error)
    envelope = message.envelope
    headers = {**envelope.headers, _REASON: f"{type(error).__name__}: {error}"}
    source.default_channel.basic_publish(
        envelope._replace(headers=headers, exchange="", routing_key=name + FAILED)
    )
    message.ack()
