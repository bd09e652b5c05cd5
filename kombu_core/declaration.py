"""The base of exchanges and queues: a declared value, and a handle once it is bound to a channel.

A declaration is a value: comparable by all that it declares, hashable by kind and name, picklable
and copyable, whatever channel it is bound to. Called with a channel (or a connection, whose
default channel is used then) it returns a bound copy, which has AMQP's operations. Only a few
attributes of an unbound one can be assigned, and none of a bound one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from kombu_core.exceptions import NotBoundError

if TYPE_CHECKING:
    from typing import Self

    from kombu_core.transport import Channel


class HasDefaultChannel(Protocol):
    """A connection, as far as a declaration needs one."""

    @property
    def default_channel(self) -> Channel:
        """The channel for what does not ask for one of its own."""
        ...


def channel_of(given: Channel | HasDefaultChannel) -> Channel:
    """Return a channel as it is, and the default channel of a connection."""
    found: Any = getattr(given, "default_channel", given)
    return cast("Channel", found)


def accepted_by(channel: Channel, accept: Collection[str] | None) -> Collection[str] | None:
    """Return what a consumer on a channel may decode: what it says, or what its connection does."""
    client = channel.transport.client
    return client.accept if accept is None and client is not None else accept


class Entity:
    """What exchanges and queues have in common: being values, and being bound to a channel."""

    __slots__ = ("_channel",)

    #: The attributes that are declared, in the order of the constructor.
    _fields: ClassVar[tuple[str, ...]] = ()
    #: Those of them that do not count when two are compared.
    _unequal: ClassVar[frozenset[str]] = frozenset()
    #: Those that can be assigned while it is not bound.
    _assignable: ClassVar[frozenset[str]] = frozenset()

    name: str
    _channel: Channel | None

    def _initialize(self, channel: Channel | HasDefaultChannel | None, **values: Any) -> None:
        self._set(_channel=None, **values)
        if channel is not None:
            self._attach(channel)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self._assignable:
            raise AttributeError(f"{name} of {type(self).__name__} cannot be assigned")
        if self.is_bound:
            raise AttributeError(
                f"{name} of {type(self).__name__} {self.name!r} cannot be assigned: it is bound"
            )
        self._set(**{name: self._normalized(name, value)})

    def _normalized(self, name: str, value: object) -> object:
        return value

    # -- binding to a channel --------------------------------------------------------------

    def __call__(self, channel: Channel | HasDefaultChannel) -> Self:
        return self.bind(channel)

    def bind(self, channel: Channel | HasDefaultChannel) -> Self:
        """Return a copy that is bound to a channel, or to the default one of a connection."""
        clone = self.__copy__()
        clone._attach(channel)
        return clone

    def revive(self, channel: Channel | HasDefaultChannel) -> None:
        """Use another channel from now on, as after a reconnect; nothing if it is not bound."""
        if self.is_bound:
            self._attach(channel)

    def _attach(self, channel: Channel | HasDefaultChannel) -> None:
        self._set(_channel=channel_of(channel))

    @property
    def is_bound(self) -> bool:
        """Whether it has a channel."""
        return self._channel is not None

    @property
    def channel(self) -> Channel:
        """The channel that it is bound to. Raises NotBoundError if there is none."""
        return self._channel_for("method")

    def _channel_for(self, operation: str) -> Channel:
        if self._channel is None:
            raise NotBoundError(
                f"Can't call {operation} on {type(self).__name__} not bound to a channel"
            )
        return self._channel

    def declare(self) -> object:
        """Create it on the broker; see the subclasses."""
        raise NotImplementedError

    def _remember(self) -> None:
        """Let the connection declare it again after it was lost."""
        client = self.channel.transport.client
        if client is not None:
            client.recovery.declared(self._unbound())

    def _forget(self) -> None:
        client = self.channel.transport.client
        if client is not None:
            client.recovery.deleted(self)

    def _unbound(self) -> Self:
        return self.__copy__()

    # -- being a value ---------------------------------------------------------------------

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """Return what the constructor takes to make an equal one.

        Args:
            recurse: Exchanges and bindings within as dicts too, as for a configuration file.
        """
        values = {name: getattr(self, name) for name in self._fields}
        return {name: _plain(value) for name, value in values.items()} if recurse else values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entity) or self._fields != other._fields:
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self._fields
            if name not in self._unequal
        )

    def __hash__(self) -> int:
        # Attributes can be assigned, the name cannot.
        return hash((self._fields, self.name))

    def __copy__(self) -> Self:
        return type(self)(**self.as_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.as_dict())

    def __repr__(self) -> str:
        if self._channel is None:
            return f"<unbound {self}>"
        number = getattr(self._channel, "channel_id", "?")
        return f"<{self} bound to chan:{number}>"


def _rebuild(cls: type[Entity], values: dict[str, Any]) -> Entity:
    return cls(**values)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dict"):
        return value.as_dict(recurse=True)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
