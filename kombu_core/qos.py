"""A prefetch limit that any thread may change, and one thread tells the broker."""

from __future__ import annotations

import logging
import threading
from typing import Final, Protocol

__all__ = ["PREFETCH_COUNT_MAX", "QoS"]

logger = logging.getLogger(__name__)

#: AMQP 0-9-1 has 16 bits for it (basic.qos).
PREFETCH_COUNT_MAX: Final = 0xFFFF


class SetsPrefetch(Protocol):
    """`Consumer.qos`, `Channel.basic_qos`, or whatever else takes the limit."""

    def __call__(self, *, prefetch_count: int) -> object:
        """Apply it."""
        ...


class QoS:
    """Counts a prefetch limit up and down; `update` applies it. Thread-safe.

    Zero means no limit, and stays so whatever is added.

    Args:
        callback: Applies a limit; called by `update` and `set` only.
        initial_value: The limit to begin with.
        max_prefetch: Counting up stops there; None for no such limit.
    """

    def __init__(
        self,
        callback: SetsPrefetch,
        initial_value: int | None,
        max_prefetch: int | None = None,
    ) -> None:
        self.callback = callback
        self.value = initial_value or 0
        self.max_prefetch = max_prefetch
        #: What was applied last; None for nothing yet.
        self.prev: int | None = None
        self._lock = threading.RLock()

    def increment_eventually(self, n: int = 1) -> int:
        """Count up, to be applied by the next `update`; return the value."""
        with self._lock:
            if self.value:
                self.value += max(n, 0)
                if self.max_prefetch is not None:
                    self.value = min(self.value, self.max_prefetch)
            return self.value

    def decrement_eventually(self, n: int = 1) -> int:
        """Count down, not below 1, to be applied by the next `update`; return the value."""
        with self._lock:
            if self.value:
                self.value = max(1, self.value - n)
            return self.value

    def set(self, pcount: int) -> int:
        """Apply a limit unless it is the last one; one that AMQP cannot say means none."""
        with self._lock:
            if pcount != self.prev:
                if pcount > PREFETCH_COUNT_MAX:
                    logger.warning(
                        "A prefetch limit of %d is more than AMQP's %d: there is none now",
                        pcount,
                        PREFETCH_COUNT_MAX,
                    )
                self.callback(prefetch_count=pcount if pcount <= PREFETCH_COUNT_MAX else 0)
                self.prev = pcount
        return pcount

    def update(self) -> int:
        """Apply the value. Call it where the channel is used; returns the value."""
        with self._lock:
            return self.set(self.value)
