"""What came and waits for somebody who drains: deliveries, cancellations, late errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu_core.message import Message

if TYPE_CHECKING:
    from kombu_amqp.channel import AmqpChannel


class Event(NamedTuple):
    """Something to be called by who drains, without the wire's lock."""

    channel: AmqpChannel
    #: Of the consumer that it is for; empty: of none.
    consumer_tag: str
    callback: Callable[[Any], object]
    argument: Any


class Events:
    """Of one connection, oldest first. The wire's lock is held around every method."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self,
        channel: AmqpChannel,
        consumer_tag: str,
        callback: Callable[[Any], object],
        argument: Any,
    ) -> None:
        """Let somebody call `callback` with `argument`."""
        self._waiting.append(Event(channel, consumer_tag, callback, argument))

    def take(self) -> Event | None:
        """Take out the oldest."""
        return self._waiting.popleft() if self._waiting else None

    def forget(self, channel: AmqpChannel, consumer_tag: str | None = None) -> list[Message]:
        """Drop those of a channel, or of one consumer; return the messages among them."""
        dropped: list[Message] = []
        kept: deque[Event] = deque()
        for event in self._waiting:
            if event.channel is channel and consumer_tag in (None, event.consumer_tag):
                if isinstance(event.argument, Message):
                    dropped.append(event.argument)
            else:
                kept.append(event)
        self._waiting = kept
        return dropped

    def clear(self) -> None:
        """Drop all: what a lost connection delivered is delivered again."""
        self._waiting.clear()
