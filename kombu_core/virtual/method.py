"""What every method of a virtual channel begins and ends with."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from kombu_core.exceptions import ChannelError

if TYPE_CHECKING:
    from kombu_core.virtual.transport import Parts, VirtualTransport


class Methods:
    """What all methods of a virtual channel need of it."""

    def __init__(self, transport: VirtualTransport) -> None:
        self._transport = transport
        self._is_open = True

    @property
    def transport(self) -> VirtualTransport:
        return self._transport

    def check_open(self) -> None:
        """Raise ChannelError 504 if the channel was closed."""
        if not self._is_open:
            raise ChannelError("CHANNEL_ERROR - the channel is closed", 504)

    def close(self) -> None:
        """End the channel."""
        raise NotImplementedError


class Method:
    """One AMQP method: needs an open channel, and closes it if the broker refuses (section 1.2)."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Methods) -> None:
        self._channel = channel

    def __enter__(self) -> Parts:
        self._channel.check_open()
        parts = self._channel.transport.parts
        # Connections that only publish or declare have no keeper to look after the dead.
        parts.session.reap_when_due(monotonic())
        return parts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, ChannelError):
            self._channel.close()
