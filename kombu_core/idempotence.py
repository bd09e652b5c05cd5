"""Handling a message once although it comes twice: what was done is remembered by its id."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

from kombu_core.exceptions import ConfigurationError
from kombu_core.message import Message

if TYPE_CHECKING:
    from kombu_core.consumer import Callback

__all__ = ["MemorySeen", "Seen", "idempotent"]

#: Tells what makes two messages the same; None for a message that is like no other.
Identify = Callable[[Message], str | None]


class Seen(Protocol):
    """A store of what was handled. Any number of threads and, if it says so, processes use it."""

    def __contains__(self, ident: str, /) -> bool:
        """Whether it was handled."""
        ...

    def add(self, ident: str) -> None:
        """Remember that it was handled. Idempotent."""
        ...


class MemorySeen:
    """Remembers the last so many ids in this process. Thread-safe.

    Args:
        limit: How many; the oldest goes when there is one more.
        ttl: Seconds after which an id is forgotten; None for never.
        clock: Returns seconds that never go back.
    """

    def __init__(
        self,
        limit: int = 100_000,
        ttl: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 1 or (ttl is not None and not ttl > 0):
            raise ConfigurationError(f"A store of {limit!r} ids for {ttl!r} s remembers nothing")
        self._limit = limit
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._added: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, ident: str, /) -> bool:
        with self._lock:
            self._forget_old()
            return ident in self._added

    def add(self, ident: str) -> None:
        with self._lock:
            self._added[ident] = self._clock()
            self._added.move_to_end(ident)
            self._forget_old()
            while len(self._added) > self._limit:
                self._added.popitem(last=False)

    def __len__(self) -> int:
        with self._lock:
            self._forget_old()
            return len(self._added)

    def _forget_old(self) -> None:
        if self._ttl is None:
            return
        oldest = self._clock() - self._ttl
        while self._added and next(iter(self._added.values())) <= oldest:
            self._added.popitem(last=False)


def message_id(message: Message) -> str | None:
    """Return the property `message_id`, which the publisher has to set."""
    return message.properties.get("message_id") or None


def idempotent(
    seen: Seen, *, identify: Identify = message_id, on_duplicate: Callback | None = None
) -> Callable[[Callback], Callback]:
    """Let a consumer's callback handle each message once; a decorator.

        @idempotent(MemorySeen())
        def handle(body, message):
            ...
            message.ack()

    An id is remembered when the callback returns; one that raises may see the message again. A
    duplicate is acknowledged, unless it was already. One that comes while the first is still being
    handled, by another thread or process, is handled too: nothing is lost if that one crashes.

    Args:
        seen: Where ids are kept. For several processes it has to be a store that they share.
        identify: What is compared; messages without an id are all handled.
        on_duplicate: Called with a duplicate, instead of acknowledging it.
    """

    def decorate(callback: Callback) -> Callback:
        @wraps(callback)
        def once(body: Any, message: Message) -> None:
            ident = identify(message)
            if ident is None:
                callback(body, message)
                return
            if ident not in seen:
                callback(body, message)
                seen.add(ident)
            elif on_duplicate is not None:
                on_duplicate(body, message)
            elif not message.acknowledged:
                message.ack()

        return once

    return decorate
