"""Acknowledging and refusing on one channel; the books are in `settling`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from kombu_amqp import frames
from kombu_amqp.errors import again
from kombu_amqp.settling import Deliveries
from kombu_amqp.topology import ChannelTopology
from kombu_core.exceptions import PreconditionFailedError

if TYPE_CHECKING:
    from kombu_amqp.driver import DriverChannel
    from kombu_amqp.transport import AmqpTransport

#: Acks that wait to be sent together at most, and for how many seconds.
ACK_BATCH: Final = 64
ACK_DELAY: Final = 0.005


class ChannelSettling(ChannelTopology):
    """The part of the Channel contract that is about deliveries; from any thread."""

    def __init__(self, transport: AmqpTransport, driver: DriverChannel) -> None:
        super().__init__(transport, driver)
        #: What the broker's delivery tags are counted from: those of an earlier channel end there.
        self._base = 0
        self._deliveries = Deliveries()
        self._ack_batch = ACK_BATCH

    def forget_deliveries(self) -> None:
        """The broker counts anew: tags of before must not settle what comes now."""
        self._base += self._deliveries.last
        self._deliveries = Deliveries()
        self._ack_batch = ACK_BATCH

    def limit_acks(self, prefetch_count: int) -> None:
        """Let fewer acks wait where that would keep further deliveries away."""
        self._ack_batch = max(1, min(ACK_BATCH, (prefetch_count or 2 * ACK_BATCH) // 2))

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        transport = self._transport
        wire = transport.wire
        deliveries = self._deliveries
        with wire.lock:
            if self._error is not None:
                self.check()
            if multiple or deliveries.is_transactional:
                self._settle(delivery_tag, multiple)
                tag = delivery_tag and delivery_tag - self._base
                wire.write(frames.ack_frame(self.number, tag, multiple))
                wire.flush()
                return
            waiting = deliveries.acknowledge(delivery_tag - self._base)
            if waiting == 0:
                self._unknown_tag(delivery_tag)
            elif waiting >= self._ack_batch:
                self.flush_acks()
                wire.flush()
            elif waiting == 1:
                transport.hurry(monotonic() + ACK_DELAY)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        wire = self._transport.wire
        with wire.lock:
            self.check()
            self._settle(delivery_tag, multiple)
            tag = delivery_tag and delivery_tag - self._base
            wire.write(frames.nack_frame(self.number, tag, multiple, requeue))
            wire.flush()

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:
        self.basic_nack(delivery_tag, False, requeue)

    def _settle(self, delivery_tag: int, multiple: bool) -> None:
        self._transport.wire.raise_lost()
        self.flush_acks()
        tag = delivery_tag - self._base if delivery_tag else 0
        if not self._deliveries.settle(tag, multiple):
            self._unknown_tag(delivery_tag)

    def _unknown_tag(self, delivery_tag: int) -> None:
        """Do as RabbitMQ does: close the channel and say why, only at once."""
        self._transport.wire.raise_lost()
        text = f"PRECONDITION_FAILED - unknown delivery tag {delivery_tag}"
        self.flush_acks()
        error = PreconditionFailedError(text)
        self._error = error
        self._close_driver()
        self.fail(error)
        raise again(error)

    def flush_acks(self) -> None:
        if self._deliveries.has_acks:
            wire, number = self._transport.wire, self.number
            for tag, multiple in self._deliveries.take_acks():
                wire.write(frames.ack_frame(number, tag, multiple))

    def requeue(self, delivery_tag: int) -> None:
        """Give one back that nobody has seen; the wire's lock is held."""
        tag = delivery_tag - self._base
        if self._deliveries.settle(tag, False):
            self._transport.wire.write(frames.nack_frame(self.number, tag, False, True))
