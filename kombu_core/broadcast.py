"""A queue for what everybody shall get: each instance has its own, on one fanout exchange."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from kombu_core.entity import Queue
from kombu_core.exchange import Exchange

__all__ = ["Broadcast"]


class Broadcast(Queue):
    """A queue of its own for each instance, bound to a fanout exchange; it goes when unused.

    Args:
        name: Name of the exchange.
        queue: Name of the queue; None for `bcast.` and something unique.
        unique: Add something unique to `queue` too.
        auto_delete: The queue goes with its last consumer.
        exchange: Instead of the durable fanout exchange called `name`.
        alias: For the application; `name` unless given.
        **options: As `Queue`.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Exchange | str | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        if unique or not queue:
            queue = f"{queue or 'bcast'}.{uuid4()}"
        super().__init__(
            queue,
            Exchange(name or "", "fanout") if exchange is None else exchange,
            alias=alias or name,
            auto_delete=auto_delete,
            **options,
        )

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        values = super().as_dict(recurse)
        # The constructor's `name` is the exchange, which is given here itself.
        return {**values, "name": None, "queue": self.name}
