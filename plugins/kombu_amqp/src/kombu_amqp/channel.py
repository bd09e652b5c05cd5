"""One AMQP channel behind the Channel contract, the same over both drivers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kombu_amqp import frames, methods
from kombu_amqp.acknowledging import ChannelSettling
from kombu_amqp.delay import unwrap
from kombu_amqp.errors import again, channel_error, closed_error
from kombu_amqp.publishing import Publisher
from kombu_core.closing import Closing
from kombu_core.exceptions import (
    BrokerError,
    ChannelError,
    OperationTimeoutError,
    UnsupportedError,
)
from kombu_core.message import Envelope, Message
from kombu_core.transport import (
    Arguments,
    CancelCallback,
    MessageCallback,
    Publication,
    ReturnCallback,
)

if TYPE_CHECKING:
    from kombu_amqp.driver import DriverChannel
    from kombu_amqp.transport import AmqpTransport


class _Consumer(NamedTuple):
    tag: str
    callback: MessageCallback
    no_ack: bool
    on_cancel: CancelCallback | None


class AmqpChannel(Closing, ChannelSettling):
    """See `kombu_core.transport.Channel` for the contract."""

    def __init__(self, transport: AmqpTransport, driver: DriverChannel) -> None:
        super().__init__(transport, driver)
        self.channel_id = driver.number
        self._publisher = Publisher(self)
        self.attach(driver)

    def attach(self, driver: DriverChannel) -> None:
        """Begin anew on a driver's channel: the first one, or a child's own after a fork."""
        self.bind(driver)
        self._publisher.reset()
        self.forget_deliveries()
        self._consumers: dict[str, _Consumer] = {}
        self._content: frames.ContentReader | None = None
        self._gotten: list[frames.Content | None] = []

    # -- publishing ------------------------------------------------------------------------

    def basic_publish(
        self,
        envelope: Envelope,
        *,
        mandatory: bool = False,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        self._publisher.publish(Publication(envelope, mandatory, delay), timeout)

    def basic_publish_batch(
        self, publications: Sequence[Publication], *, timeout: float | None = None
    ) -> None:
        self._publisher.publish_batch(publications, timeout)

    def set_return_callback(self, callback: ReturnCallback | None) -> None:
        self._publisher.on_return = callback

    # -- consuming -------------------------------------------------------------------------

    def basic_get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        transport = self._transport
        wire = transport.wire
        with self.turn, wire.lock:
            wire.raise_lost()
            self.check()
            self.flush_acks()
            wire.write(frames.get_frame(self.number, queue, no_ack))
            gotten = self._gotten
            self._calls += 1
            try:
                with transport.calling(self._failure):
                    transport.await_answer(lambda: gotten)
            except OperationTimeoutError:
                self.fail(ChannelError("basic_get was not answered", 504))
                raise
            finally:
                self._calls -= 1
            content = gotten.pop()
            if content is None:
                return None
            self._deliveries.add(content.delivery_tag, not no_ack)
            return self._message(content, "", no_ack)

    def _message(self, content: frames.Content, consumer_tag: str, no_ack: bool) -> Message:
        return Message(
            self,
            unwrap(content.envelope),
            content.delivery_tag + self._base,
            content.redelivered,
            consumer_tag,
            no_ack,
        )

    def basic_consume(
        self,
        queue: str,
        callback: MessageCallback,
        *,
        consumer_tag: str = "",
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments | None = None,
        on_cancel: CancelCallback | None = None,
    ) -> str:
        # Made here, because a delivery may come with the answer that would tell it.
        tag = consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self._consumers:
            # RabbitMQ would close the connection (530).
            raise ChannelError(f"The consumer tag {tag!r} is in use on this channel", 530)
        self._consumers[tag] = _Consumer(tag, callback, no_ack, on_cancel)
        try:
            self._ask(methods.basic_consume(queue, tag, no_ack, exclusive, arguments))
        except BaseException:
            self._consumers.pop(tag, None)
            raise
        return tag

    def basic_cancel(self, consumer_tag: str) -> None:
        if consumer_tag not in self._consumers:
            return
        self._ask(methods.basic_cancel(consumer_tag))
        transport = self._transport
        with transport.wire.lock:
            self._consumers.pop(consumer_tag, None)
            # Nobody has seen what was delivered and not handled yet: others may have it.
            for message in transport.events.forget(self, consumer_tag):
                self.requeue(message.delivery_tag)
            transport.wire.flush()

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        if prefetch_size:
            # RabbitMQ would close the connection (540).
            raise UnsupportedError("prefetch_size", self._transport.capabilities.name)
        self._call("basic_qos", prefetch_size, prefetch_count, apply_global)
        # Acks that wait use up the room for further deliveries.
        self.limit_acks(prefetch_count)

    def basic_recover(self, requeue: bool = True) -> None:
        if not requeue:
            # RabbitMQ would close the connection (540).
            raise UnsupportedError(
                "basic_recover(requeue=False)", self._transport.capabilities.name
            )
        transport = self._transport
        with transport.wire.lock:
            transport.events.forget(self)
            self._deliveries.requeued()
        self._call("basic_recover")

    def flow(self, active: bool) -> None:
        self._transport.capabilities.require("flow", "RabbitMQ has no channel.flow of clients")

    # -- transactions and the channel itself -----------------------------------------------

    def confirm_select(self) -> None:
        self._publisher.confirm_select()

    def tx_select(self) -> None:
        self._call("tx_select")
        self._deliveries.begin()
        self._publisher.begin()

    def tx_commit(self) -> None:
        self._call("tx_commit")
        self._deliveries.commit()
        self._publisher.committed()

    def tx_rollback(self) -> None:
        self._call("tx_rollback")
        self._deliveries.rollback()

    def close(self) -> None:
        transport = self._transport
        if self._error is not None or not transport.is_connected:
            return
        wire = transport.wire
        with wire.lock:
            if self._error is not None:
                return
            self.flush_acks()
            self._error = closed_error()
            self._close_driver()
            self.fail(self._error)

    # -- what the broker says; the wire's lock is held -------------------------------------

    def take(self, kind: int, payload: bytes) -> bool:
        """Take in a frame; False if it is the driver's."""
        if kind != frames.METHOD:
            reader = self._content
            if reader is not None and reader.add(kind, payload):
                self._content = None
                self._take_content(reader)
            return True
        method = payload[:4]
        if method in frames.CONTENT_METHODS:
            self._content = frames.ContentReader(payload)
        elif method == frames.BASIC_ACK or method == frames.BASIC_NACK:
            number, multiple = frames.read_settle(payload)
            self._publisher.settled(number, multiple, method == frames.BASIC_ACK)
        elif method == frames.BASIC_GET_EMPTY:
            self._gotten.append(None)
        else:
            if method == frames.BASIC_CANCEL:
                self._cancelled(frames.read_cancel(payload))
            elif method == frames.CHANNEL_CLOSE:
                self._closed_by_broker(*frames.read_close(payload))
            return False
        return True

    def _take_content(self, reader: frames.ContentReader) -> None:
        if self._error is not None:
            return
        content = reader.content()
        method = reader.method
        if method == frames.BASIC_DELIVER:
            tag = content.text
            consumer = self._consumers.get(tag)
            if consumer is None:
                self._deliveries.add(content.delivery_tag, True)
                return
            self._deliveries.add(content.delivery_tag, not consumer.no_ack)
            message = self._message(content, tag, consumer.no_ack)
            self._transport.events.add(self, tag, consumer.callback, message)
        elif method == frames.BASIC_GET_OK:
            self._gotten.append(content)
        else:
            late = self._publisher.came_back(content)
            if late is not None:
                self._transport.events.add(self, "", self._publisher.report, late)

    def _cancelled(self, consumer_tag: str) -> None:
        consumer = self._consumers.pop(consumer_tag, None)
        if consumer is not None and consumer.on_cancel is not None:
            self._transport.events.add(self, consumer_tag, consumer.on_cancel, consumer_tag)

    def _closed_by_broker(self, code: int, text: str) -> None:
        if self._error is not None:
            return
        error = channel_error(code, text)
        is_heard = self._calls or self._publisher.is_waiting
        self.fail(error)
        if not is_heard:
            # As when a delivery was not acknowledged for too long: who drains has to learn it.
            self._transport.events.add(self, "", _throw, error)

    def fail(self, error: BrokerError) -> None:
        if self._error is None:
            self._error = error
        self._publisher.fail(error)
        self._consumers.clear()
        self._transport.events.forget(self)
        self._transport.forget_channel(self)


def _throw(error: BrokerError) -> None:
    raise again(error)
