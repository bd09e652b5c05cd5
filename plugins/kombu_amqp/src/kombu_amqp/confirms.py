"""The books about what was published on a channel: confirmed, refused, returned, or not known yet.

The broker confirms by number, in any order and many at once. It returns a mandatory message before
it confirms it, but without the number: the returned one is the first of those that wait which looks
the same, and equal messages that wait together are routed alike.
"""

from __future__ import annotations

from typing import NamedTuple

from kombu_amqp.frames import Content
from kombu_core.exceptions import BrokerError, PublishRejectedError, UnroutableError
from kombu_core.message import Envelope


class Receipt:
    """What became of some messages that were published together."""

    __slots__ = ("failed", "open", "returned")

    def __init__(self) -> None:
        #: How many are neither confirmed nor refused.
        self.open = 0
        #: By position: refused, returned, or lost with the channel.
        self.failed: dict[int, Exception] = {}
        #: By position.
        self.returned: dict[int, UnroutableError] = {}

    def is_complete(self) -> bool:
        """Whether everything is known."""
        return self.open == 0


class _Pending(NamedTuple):
    receipt: Receipt
    position: int
    #: What was sent, and what the application gave for it.
    sent: Envelope
    given: Envelope
    mandatory: bool


class Confirms:
    """Of one channel, since it was opened. The wire's lock is held around every method."""

    __slots__ = ("_last", "_lowest", "_mandatory", "_pending")

    def __init__(self) -> None:
        self._last = 0
        self._lowest = 1
        self._pending: dict[int, _Pending] = {}
        self._mandatory: dict[int, _Pending] = {}

    def expect(
        self, receipt: Receipt, position: int, sent: Envelope, given: Envelope, mandatory: bool
    ) -> None:
        """One more message is sent now."""
        self._last += 1
        receipt.open += 1
        pending = _Pending(receipt, position, sent, given, mandatory)
        self._pending[self._last] = pending
        if mandatory:
            self._mandatory[self._last] = pending

    def settle(self, number: int, multiple: bool, is_stored: bool) -> None:
        """The broker confirmed or refused one, or all up to it (0: all)."""
        if multiple:
            number = number or self._last
            numbers = range(self._lowest, number + 1)
            self._lowest = number + 1
        else:
            numbers = range(number, number + 1)
        pending = self._pending
        for each in numbers:
            found = pending.pop(each, None)
            if found is None:
                continue
            receipt = found.receipt
            receipt.open -= 1
            if not is_stored:
                receipt.failed[found.position] = PublishRejectedError(
                    f"The broker did not store the message for exchange {found.given.exchange!r} "
                    f"and routing key {found.given.routing_key!r}"
                )
            if found.mandatory:
                self._mandatory.pop(each, None)

    def come_back(self, content: Content) -> Envelope | None:
        """The broker returned a message; tell which, None if nobody waits for it."""
        found = self._find(content.envelope)
        if found is None:
            return None
        number, pending = found
        del self._mandatory[number]
        pending.receipt.returned[pending.position] = UnroutableError(
            pending.given, content.code, content.text
        )
        return pending.given

    def _find(self, returned: Envelope) -> tuple[int, _Pending] | None:
        alike = None
        for number, pending in self._mandatory.items():
            sent = pending.sent
            if (
                sent.routing_key == returned.routing_key
                and sent.exchange == returned.exchange
                and sent.body == returned.body
            ):
                if sent == returned:
                    return number, pending
                # Numbers, times and the like may come back in another form.
                alike = alike or (number, pending)
        return alike

    def open_positions(self, receipt: Receipt) -> list[int]:
        """Return the positions of which nothing is known yet."""
        return [each.position for each in self._pending.values() if each.receipt is receipt]

    @property
    def is_waiting(self) -> bool:
        """Whether anything is not confirmed."""
        return bool(self._pending)

    def fail(self, error: BrokerError) -> None:
        """Nothing more will be heard: the channel or the connection is gone."""
        for pending in self._pending.values():
            pending.receipt.failed[pending.position] = error
            pending.receipt.open -= 1
        self._pending.clear()
        self._mandatory.clear()
