"""Publishing on one channel: frames out, confirms and returned messages in."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from kombu_amqp.confirms import Confirms, Receipt
from kombu_amqp.errors import again, late_error
from kombu_amqp.frames import Content, publish_frames
from kombu_core.exceptions import (
    BatchPublishError,
    BrokerError,
    EncodeError,
    UnroutableError,
)
from kombu_core.transport import Publication, ReturnCallback

if TYPE_CHECKING:
    from kombu_amqp.channel import AmqpChannel
    from kombu_amqp.wire import Wire

#: Bytes of a batch that are collected before they are sent.
_SEND_BYTES: Final = 65536

_UNCONFIRMED: Final = "The broker did not confirm the message in time"


class Publisher:
    """What publishes on a channel. Its public methods may be called from any thread."""

    def __init__(self, channel: AmqpChannel) -> None:
        self._channel = channel
        self.on_return: ReturnCallback | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew, on another channel of the broker."""
        self._confirms = Confirms()
        self._is_confirming = False
        #: What came back in the transaction so far; None outside of one.
        self._transaction: list[UnroutableError] | None = None

    def confirm_select(self, deadline: float | None = None) -> None:
        """Ask the broker for confirms, unless that was done."""
        channel = self._channel
        transport = channel.transport
        wire = transport.wire
        left = transport.options.socket_timeout
        if deadline is not None:
            left = min(left, max(0.0, deadline - monotonic()))
        if not channel.turn.acquire(timeout=left):
            raise late_error(_UNCONFIRMED, wire.blocked)
        try:
            with wire.lock:
                wire.raise_lost()
                channel.check()
                if not self._is_confirming:
                    channel.call_driver("confirm_select", timeout=left)
                    self._is_confirming = True
        finally:
            channel.turn.release()

    def begin(self) -> None:
        """From now on publishes wait for a commit; nothing is lost of those that do already."""
        if self._transaction is None:
            self._transaction = []

    def committed(self) -> None:
        """The transaction is done; raises UnroutableError, or calls `on_return`, for it."""
        returned, self._transaction = self._transaction or [], []
        for each in returned:
            self.report(each)

    # -- one and many ----------------------------------------------------------------------

    def publish(self, publication: Publication, timeout: float | None) -> None:
        """Publish one message; see `Channel.basic_publish`."""
        receipt = self._send((publication,), timeout)
        failed = receipt.failed.get(0)
        if failed is not None:
            raise again(failed) if isinstance(failed, BrokerError) else failed
        returned = receipt.returned.get(0)
        if returned is not None:
            self.report(returned)

    def publish_batch(self, publications: Sequence[Publication], timeout: float | None) -> None:
        """Publish many messages; see `Channel.basic_publish_batch`."""
        if not publications:
            return
        receipt = self._send(publications, timeout)
        failed = receipt.failed
        for position, returned in receipt.returned.items():
            if self.on_return is None:
                failed[position] = returned
            else:
                self.report(returned)
        if failed:
            raise BatchPublishError(dict(sorted(failed.items())), len(publications))

    def report(self, returned: UnroutableError) -> None:
        """Tell the application that a message came back."""
        if self.on_return is None:
            raise returned
        self.on_return(returned.envelope, returned.code, returned.text)

    def _send(self, publications: Sequence[Publication], timeout: float | None) -> Receipt:
        """Send, and wait until everything is known; what is not in time is in `failed`, too.

        Without confirms, as in a transaction, there is nothing to wait for but the socket.
        """
        channel = self._channel
        transport = channel.transport
        transport.delays.prepare(publications)
        deadline = monotonic() + (transport.options.confirm_timeout if timeout is None else timeout)
        wire = transport.wire
        if transport.options.confirms and not self._is_confirming and self._transaction is None:
            self.confirm_select(deadline)
        number, frame_max = channel.number, transport.frame_max
        receipt = Receipt()
        with wire.lock:
            wire.raise_lost()
            channel.check()
            channel.flush_acks()
            if self._await_room(wire, deadline):
                channel.check()
            confirms = self._confirms if self._is_confirming else None
            collected, is_late = 0, False
            for position, (envelope, mandatory, delay) in enumerate(publications):
                if is_late:
                    receipt.failed[position] = late_error(_UNCONFIRMED, wire.blocked)
                    continue
                sent = transport.delays.wrap(envelope, delay) if delay > 0 else envelope
                try:
                    data = publish_frames(number, sent, mandatory, frame_max)
                except EncodeError as error:
                    receipt.failed[position] = error
                    continue
                if confirms is not None:
                    confirms.expect(receipt, position, sent, envelope, mandatory)
                wire.write(data)
                collected += len(data)
                if collected >= _SEND_BYTES:
                    collected = 0
                    wire.flush()
                    if wire.has_output:
                        is_late = not wire.wait(lambda: not wire.has_output, deadline)
                    channel.check()
            if confirms is None:
                if not wire.wait(lambda: not wire.has_output, deadline):
                    raise late_error("The broker did not take the message in time", wire.blocked)
            elif not wire.wait(receipt.is_complete, deadline):
                for position in confirms.open_positions(receipt):
                    receipt.failed[position] = late_error(_UNCONFIRMED, wire.blocked)
            return receipt

    def _await_room(self, wire: Wire, deadline: float) -> bool:
        """Wait while the broker takes nothing, so that nothing is sent that nobody waits for."""
        if wire.blocked is None and not wire.has_output:
            return False
        if not wire.wait(lambda: wire.blocked is None and not wire.has_output, deadline):
            raise late_error(_UNCONFIRMED, wire.blocked)
        return True

    # -- what the broker says --------------------------------------------------------------

    def settled(self, number: int, multiple: bool, is_stored: bool) -> None:
        """A confirm came; the wire's lock is held here and below."""
        self._confirms.settle(number, multiple, is_stored)

    def came_back(self, content: Content) -> UnroutableError | None:
        """A message was returned; the error is returned if no call waits that could raise it."""
        if self._confirms.come_back(content):
            return None
        returned = UnroutableError(content.envelope, content.code, content.text)
        if self._transaction is None:
            return returned
        self._transaction.append(returned)
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether a publish waits for its confirm."""
        return self._confirms.is_waiting

    def fail(self, error: BrokerError) -> None:
        """The channel, or the connection, is gone."""
        self._confirms.fail(error)
