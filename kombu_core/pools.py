"""Pools that a whole program shares: of connections, and of producers, by what they connect to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from kombu_core.producer import Producer
from kombu_core.resource import ConnectionPool, Resource, checked_limit

if TYPE_CHECKING:
    from kombu_core.connection import Connection

__all__ = [
    "PoolGroup",
    "ProducerPool",
    "connections",
    "get_limit",
    "producers",
    "register_group",
    "reset",
    "set_limit",
]

P = TypeVar("P", bound=Resource[Any])
G = TypeVar("G", bound="PoolGroup[Any]")

MakesProducer = Callable[["Connection"], Producer]

#: Members of a pool of the groups below, unless `set_limit` says otherwise.
DEFAULT_LIMIT: Final = 10


class ProducerPool(Resource[Producer]):
    """Producers, each on a connection of a pool while somebody uses it.

        with producers[connection].acquire(block=True) as producer:
            producer.publish({"hello": "world"}, routing_key="greetings")

    `acquire` waits for a connection too, and may raise that it has none.

    Args:
        connections: Where they take connections from.
        limit: How many are in use at most; None or 0: as many as there are connections.
        Producer: Makes one of a connection.
    """

    _made: dict[Connection, Producer]

    def __init__(
        self,
        connections: ConnectionPool,
        limit: int | None = None,
        Producer: MakesProducer = Producer,  # noqa: N803 (kombu's name)
    ) -> None:
        self.connections = connections
        self._make = Producer
        super().__init__(limit)

    def forked(self) -> None:
        #: One for each connection, which remembers what it declared.
        self._made = {}
        self._taken: dict[int, Connection] = {}
        super().forked()

    def new(self, timeout: float | None) -> Producer:
        connection = self.connections.acquire(block=True, timeout=timeout)
        try:
            producer = self._made.get(connection)
            if producer is None:
                for other in list(self._made):
                    if not other.connected:
                        self._made.pop(other, None)
                producer = self._made[connection] = self._make(connection)
        except BaseException:
            self.connections.release(connection)
            raise
        self._taken[id(producer)] = connection
        return producer

    def is_usable(self, resource: Producer, idle: float) -> bool:
        return False  # It is nothing without its connection, which somebody else may get.

    def close_resource(self, resource: Producer) -> None:
        self.connections.release(self._taken.pop(id(resource)))


class PoolGroup(Generic[P]):
    """One pool for each connection, made when it is asked for. Thread-safe.

    Connections that could stand in for each other (`Connection.identity`) share a pool.

    Args:
        limit: Of each pool; None for what `set_limit` says.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._pools: dict[Hashable, P] = {}

    def create(self, connection: Connection, limit: int) -> P:
        """Make the pool for a connection."""
        raise NotImplementedError(f"{type(self).__name__} has to define create()")

    def __getitem__(self, connection: Connection) -> P:
        key = connection.identity
        pool = self._pools.get(key)
        if pool is None:
            limit = get_limit() if self.limit is None else self.limit
            pool = self._pools.setdefault(key, self.create(connection, limit))
        return pool

    def __contains__(self, connection: Connection) -> bool:
        return connection.identity in self._pools

    def __iter__(self) -> Iterator[P]:
        return iter(list(self._pools.values()))

    def __len__(self) -> int:
        return len(self._pools)

    def values(self) -> list[P]:
        """Return the pools."""
        return list(self)

    def clear(self) -> None:
        """Forget the pools, closing nothing."""
        self._pools.clear()


class Connections(PoolGroup[ConnectionPool]):
    """Pools of connections."""

    def create(self, connection: Connection, limit: int) -> ConnectionPool:
        return connection.clone().Pool(limit)


class Producers(PoolGroup[ProducerPool]):
    """Pools of producers, on the connections of the group above."""

    def create(self, connection: Connection, limit: int) -> ProducerPool:
        return ProducerPool(connections[connection], limit)


class _Limit:
    """What `set_limit` changes."""

    value = DEFAULT_LIMIT


_groups: Final[list[PoolGroup[Any]]] = []


def register_group(group: G) -> G:
    """Let `set_limit` and `reset` reach a group of pools; returns it."""
    _groups.append(group)
    return group


def get_limit() -> int:
    """Return how many members a pool of a registered group has at most; 0 for no limit."""
    return _Limit.value


def set_limit(limit: int | None, reset_after: bool = False) -> int:
    """Change that, also for the pools there are; see `Resource.resize`.

    Args:
        limit: None or 0 for no limit.
        reset_after: Close what is idle.
    """
    _Limit.value = checked_limit(limit) or 0
    for group in _groups:
        for pool in group:
            if group.limit is None:
                pool.resize(limit, reset=reset_after)
    return _Limit.value


def reset() -> None:
    """Close everything in the registered groups, also what is in use, and forget the pools."""
    for group in reversed(_groups):  # Producers before the connections that they are on.
        for pool in group:
            pool.force_close_all()
        group.clear()


#: `connections[connection]` is a pool of connections like that one.
connections: Final = register_group(Connections())
#: `producers[connection]` is a pool of producers on connections like that one.
producers: Final = register_group(Producers())
