"""Consumer priorities: who is higher comes first, as long as it can take more (RabbitMQ).

Within a connection that is a matter of order. Between connections, a consumer that cannot take more
says so in the list of the queue's consumers, and one of lower priority claims only while all higher
ones do. Queues whose consumers are all of one priority, nearly all, cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from kombu_core.virtual.declarations import Declarations
from kombu_core.virtual.topology import ConsumerRecord


class Ranked(Protocol):
    """A consumer of this connection."""

    tag: str
    priority: int

    @property
    def channel_id(self) -> int:
        """Its channel."""
        ...

    def capacity(self) -> int:
        """How many more messages it can take."""
        ...


R = TypeVar("R", bound=Ranked)


class Precedence:
    """What one connection knows of the others' consumers. Belongs to the thread that drains."""

    def __init__(self, declarations: Declarations, session: str) -> None:
        self._declarations = declarations
        self._session = session
        #: By queue: consumers of other connections. Only where priorities differ.
        self._rivals: dict[str, list[ConsumerRecord]] = {}
        #: What was said of this connection's consumers: those that cannot take more.
        self._said: dict[str, set[tuple[int, str]]] = {}

    def look(self, queue: str, records: Sequence[ConsumerRecord]) -> None:
        """Take in who consumes from a queue."""
        if len({record.priority for record in records}) < 2:
            self._rivals.pop(queue, None)
            return
        self._rivals[queue] = [record for record in records if record.session != self._session]

    def first(self, queue: str, with_room: list[R]) -> list[R]:
        """Return those of the consumers with room that are served now."""
        highest = max(consumer.priority for consumer in with_room)
        for rival in self._rivals.get(queue, ()):
            if rival.priority > highest and not rival.is_blocked:
                return []
        return [consumer for consumer in with_room if consumer.priority == highest]

    def yields(self, queue: str) -> bool:
        """Whether consumers of other connections may come first."""
        return bool(self._rivals.get(queue))

    def say(self, queue: str, consumers: Iterable[Ranked]) -> None:
        """Tell the others which consumers cannot take more, if it changed and matters to them."""
        rivals = self._rivals.get(queue)
        if not rivals:
            return
        lowest = min(rival.priority for rival in rivals)
        blocked = {
            (consumer.channel_id, consumer.tag)
            for consumer in consumers
            if consumer.priority > lowest and not consumer.capacity()
        }
        if blocked != self._said.get(queue, set()):
            self._declarations.mark_blocked(queue, self._session, blocked)
            self._said[queue] = blocked
