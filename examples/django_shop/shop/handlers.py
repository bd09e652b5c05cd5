"""What the worker does: `manage.py kombu_consume shop.handlers.order_placed orders`."""

from __future__ import annotations

from typing import Any

from kombu_core import Message
from shop.models import Invoice, Order


def order_placed(body: dict[str, Any], message: Message) -> None:
    """Write an invoice; it is committed together with the acknowledgement of the message."""
    order = Order.objects.get(pk=body["order"])
    Invoice.objects.create(order=order, amount=len(order.thing))
    if order.thing == "impossible":
        raise ValueError("There is no such thing")
