"""What a message looks like after it died in a queue: RabbitMQ 3.10's `x-death` headers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from kombu_core.message import Envelope, Properties

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]


def buried(
    envelope: Envelope,
    *,
    queue: str,
    reason: Reason,
    exchange: str,
    routing_key: str | None,
    now: float,
) -> Envelope:
    """Return the message as it is published to the dead-letter exchange.

    Deaths are counted by queue and reason, the last one first; the first one is also kept in
    `x-first-death-*`. The time to live is taken off, so that it does not die again of it.
    """
    headers = dict(envelope.headers)
    properties: Properties = envelope.properties
    death: dict[str, Any] = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(int(now), UTC),
        "exchange": envelope.exchange,
        "routing-keys": [envelope.routing_key],
    }
    if "expiration" in properties:
        death["original-expiration"] = properties["expiration"]
        properties = properties.copy()
        del properties["expiration"]
    others = []
    for earlier in deaths(envelope.headers):
        if earlier.get("queue") == queue and earlier.get("reason") == reason:
            death = {**earlier, "count": _count(earlier) + 1}
        else:
            others.append(earlier)
    if "x-death" not in headers:
        headers["x-first-death-reason"] = reason
        headers["x-first-death-queue"] = queue
        headers["x-first-death-exchange"] = envelope.exchange
    headers["x-death"] = [death, *others]
    key = envelope.routing_key if routing_key is None else routing_key
    return Envelope(envelope.body, properties, headers, exchange, key)


def is_cycle(queue: str, headers: Mapping[str, Any]) -> bool:
    """Tell whether the message was in `queue` before and nobody rejected it since.

    RabbitMQ drops such a message for that queue, because nothing would ever end its journey.
    """
    for death in deaths(headers):
        if death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue:
            return True
    return False


def deaths(headers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of `x-death` that can be understood, the last death first."""
    found = headers.get("x-death")
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _count(death: Mapping[str, Any]) -> int:
    count = death.get("count")
    return count if isinstance(count, int) else 1
