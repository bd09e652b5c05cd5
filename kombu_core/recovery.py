"""What a connection needs to go on after it was lost: what it declared, and who used it."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from kombu_core.exceptions import KombuError
from kombu_core.forking import tell_of_forks
from kombu_core.transport import Channel, Transport

if TYPE_CHECKING:
    from kombu_core.declaration import Entity

#: Names that a broker made up; it makes up another one next time.
SERVER_NAMED: Final = "amq.gen-"
#: The default channel, among channels by their id().
_DEFAULT: Final = 0


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
        self.forked()
        tell_of_forks(self)
        self._declared: dict[tuple[type[Entity], str], Entity] = {}
        self._users: weakref.WeakSet[User] = weakref.WeakSet()
        #: A connection was lost, and what it had is not restored yet.
        self.is_needed = False
        #: The default channels that were lost since.
        self._former: list[Channel] = []

    def forked(self) -> None:
        """In a forked child: the parent's threads may have held the lock."""
        self._lock = threading.Lock()

    def declared(self, entity: Entity) -> None:
        """An exchange or queue was declared; the last declaration of a name counts."""
        if not entity.name or entity.name.startswith(SERVER_NAMED):
            return
        key = (type(entity), entity.name)
        with self._lock:
            self._declared.pop(key, None)
            self._declared[key] = entity

    def deleted(self, entity: Entity) -> None:
        """An exchange or queue was deleted."""
        with self._lock:
            self._declared.pop((type(entity), entity.name), None)

    def uses(self, user: User) -> None:
        """A producer or consumer works on a channel of the connection."""
        with self._lock:
            self._users.add(user)

    def forget(self) -> None:
        """The connection was closed on purpose: nothing of it comes back."""
        with self._lock:
            self._declared.clear()
            self._users.clear()
        self.is_needed, self._former = False, []

    def lost(self, default_channel: Channel | None) -> None:
        """The connection was lost, and with it what was its default channel."""
        self.is_needed = True
        if default_channel is not None:
            self._former.append(default_channel)

    def restore(self, transport: Transport) -> Channel | None:
        """Declare again, and give each user a channel of the new connection.

        Who shared a channel shares one again. If it fails, it closes what it opened, and can be
        called again, with the same or another connection.

        Returns the new default channel, None if nobody needed one.
        """
        with self._lock:
            declared, users = list(self._declared.values()), list(self._users)
        opened: dict[int, Channel] = {}

        def channel(instead_of: int) -> Channel:
            if instead_of not in opened:
                opened[instead_of] = transport.channel()
            return opened[instead_of]

        try:
            for entity in declared:
                entity.bind(channel(_DEFAULT)).declare()
            for user in users:
                old = user.used_channel
                if old is not None:
                    is_default = any(old is former for former in self._former)
                    user.revive(channel(_DEFAULT if is_default else id(old)))
        except BaseException:
            if _DEFAULT in opened:
                self._former.append(opened[_DEFAULT])
            for half_done in opened.values():
                with suppress(KombuError):
                    half_done.close()
            raise
        self.is_needed, self._former = False, []
        return opened.get(_DEFAULT)
