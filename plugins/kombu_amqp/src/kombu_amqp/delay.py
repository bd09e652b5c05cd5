"""Delays on RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu_core.message import Envelope

if TYPE_CHECKING:
    from kombu_amqp.transport import AmqpTransport


class Delays:
    def __init__(self, transport: AmqpTransport) -> None:
        self._transport = transport

    def wrap(self, envelope: Envelope, delay: float) -> Envelope:
        return envelope
