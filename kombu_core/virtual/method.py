"""What every method of a virtual channel begins and ends with."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from kombu_core.exceptions import ChannelError

if TYPE_CHECKING:
    from kombu_core.virtual.channel import VirtualChannel
    from kombu_core.virtual.transport import Parts


class Method:
    """One AMQP method: needs an open channel, and closes it if the broker refuses (section 1.2)."""

    __slots__ = ("_channel",)

    def __init__(self, channel: VirtualChannel) -> None:
        self._channel = channel

    def __enter__(self) -> Parts:
        self._channel.check_open()
        transport = self._channel.transport
        parts = transport.parts
        # Connections that only publish or declare have no keeper to look after the dead.
        transport.reap_when_due(monotonic())
        return parts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, ChannelError):
            self._channel.close()
