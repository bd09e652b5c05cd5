"""What a connection makes: producers, consumers, simple queues, and pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from kombu_core.consumer import Consumer
from kombu_core.entity import Queue
from kombu_core.producer import Producer
from kombu_core.resource import ChannelPool, ConnectionPool
from kombu_core.simple import SimpleBuffer, SimpleQueue

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.transport import Channel


class Handles:
    """The part of `Connection` that hands out what uses it. Nothing of it connects by itself."""

    @property
    def _itself(self) -> Connection:
        return cast("Connection", self)

    def Producer(self, channel: Channel | None = None, **options: Any) -> Producer:  # noqa: N802
        """Make a producer on a channel, or on the default one; options as `Producer`."""
        return Producer(self._itself if channel is None else channel, **options)

    def Consumer(  # noqa: N802 (kombu's name)
        self,
        queues: Iterable[Queue] | Queue | None = None,
        channel: Channel | None = None,
        **options: Any,
    ) -> Consumer:
        """Make a consumer on a channel, or on the default one; options as `Consumer`."""
        return Consumer(self._itself if channel is None else channel, queues, **options)

    def SimpleQueue(  # noqa: N802 (kombu's name)
        self,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None,
        queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        channel: Channel | None = None,
        **options: Any,
    ) -> SimpleQueue:
        """Make a durable queue with the interface of `queue.Queue`; see `SimpleQueue`."""
        at = self._itself if channel is None else channel
        return SimpleQueue(at, name, no_ack, queue_opts, queue_args, exchange_opts, **options)

    def SimpleBuffer(  # noqa: N802 (kombu's name)
        self,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None,
        queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        channel: Channel | None = None,
        **options: Any,
    ) -> SimpleBuffer:
        """Make a queue that goes with this connection; see `SimpleBuffer`."""
        at = self._itself if channel is None else channel
        return SimpleBuffer(at, name, no_ack, queue_opts, queue_args, exchange_opts, **options)

    def Pool(  # noqa: N802 (kombu's name)
        self, limit: int | None = None, preload: int | None = None, **options: Any
    ) -> ConnectionPool:
        """Make a pool of connections like this one; see `ConnectionPool`."""
        return ConnectionPool(self._itself, limit, preload, **options)

    def ChannelPool(  # noqa: N802 (kombu's name)
        self, limit: int | None = None, preload: int | None = None
    ) -> ChannelPool:
        """Make a pool of channels of this connection; see `ChannelPool`."""
        return ChannelPool(self._itself, limit, preload)
