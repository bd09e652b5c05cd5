"""The page: the orders, and a form for one more."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from kombu_django.publishing import publish
from shop.models import Order
from shop.topology import ORDERS


@require_http_methods(["GET", "POST"])
def orders(request: HttpRequest) -> HttpResponse:
    """Save an order and publish it in one transaction: both are there, or none is."""
    if request.method == "GET":
        found = Order.objects.order_by("-id").prefetch_related("invoices")[:50]
        return render(request, "shop/orders.html", {"orders": found})
    with transaction.atomic():
        order = Order.objects.create(thing=request.POST["thing"])
        publish({"order": order.pk}, ORDERS.name)
        if order.thing == "broken":
            raise ValueError("The order and its message are rolled back")
    return redirect("orders")
