"""What a connection needs to go on after it was lost: what it declared, and who used it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from kombu_core.exceptions import KombuError
from kombu_core.transport import Channel

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.declaration import Entity

#: Names that a broker made up; it makes up another one next time.
SERVER_NAMED: Final = "amq.gen-"


class User(Protocol):
    """A producer or a consumer."""

    @property
    def used_channel(self) -> Channel | None:
        """The channel that it works on, None if it has none yet."""
        ...

    def revive(self, channel: Channel) -> None:
        """Go on with another channel."""
        ...


class Recovery:
    """Remembers what was declared through a connection and who uses it. Thread-safe.

    Declarations are kept until they are deleted through the same connection; users are kept only
    while somebody else does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._declared: dict[Entity, None] = {}
        self._users: weakref.WeakSet[User] = weakref.WeakSet()

    def declared(self, entity: Entity) -> None:
        """An exchange or queue was declared; the last declaration of a name counts."""
        if not entity.name or entity.name.startswith(SERVER_NAMED):
            return
        with self._lock:
            self._declared.pop(entity, None)
            self._declared[entity] = None

    def deleted(self, entity: Entity) -> None:
        """An exchange or queue was deleted."""
        with self._lock:
            for known in [
                known
                for known in self._declared
                if type(known) is type(entity) and known.name == entity.name
            ]:
                del self._declared[known]

    def uses(self, user: User) -> None:
        """A producer or consumer works on a channel of the connection."""
        with self._lock:
            self._users.add(user)

    def forget(self) -> None:
        """The connection was closed on purpose: nothing of it comes back."""
        with self._lock:
            self._declared.clear()
            self._users.clear()

    def restore(self, connection: Connection, former: Collection[Channel]) -> None:
        """Declare again, and give each user a channel of the new connection.

        If it fails it can be called again: each user has its former channel still, or one that is
        closed.

        Args:
            connection: Newly connected.
            former: What were its default channels before.
        """
        with self._lock:
            declared, users = list(self._declared), list(self._users)
        for entity in declared:
            entity.bind(connection.default_channel).declare()
        replaced: dict[int, Channel] = {}
        try:
            for user in users:
                old = user.used_channel
                if old is None:
                    continue
                if any(old is channel for channel in former):
                    new = connection.default_channel
                else:
                    if id(old) not in replaced:
                        replaced[id(old)] = connection.channel()
                    new = replaced[id(old)]
                user.revive(new)
        except BaseException:
            for channel in replaced.values():
                with suppress(KombuError):
                    channel.close()
            raise
