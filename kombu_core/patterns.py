"""The names that programs for kombu import from its `common`: patterns on the public API."""

from uuid import uuid4

from kombu_core.broadcast import Broadcast
from kombu_core.insurance import ignore_errors, insured, maybe_declare
from kombu_core.qos import PREFETCH_COUNT_MAX, QoS
from kombu_core.receiving import (
    collect_replies,
    drain_consumer,
    eventloop,
    itermessages,
    send_reply,
)

__all__ = [
    "PREFETCH_COUNT_MAX",
    "Broadcast",
    "QoS",
    "collect_replies",
    "drain_consumer",
    "eventloop",
    "ignore_errors",
    "insured",
    "itermessages",
    "maybe_declare",
    "send_reply",
    "uuid",
]


def uuid() -> str:
    """Return a new random name, as `6c84fb90-12c4-11e1-840d-7b25c5ee775a`."""
    return str(uuid4())
