"""Orders, and an invoice for each of them."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What somebody wants."""

    thing = models.CharField(max_length=100)

    def __str__(self) -> str:
        return f"{self.pk}: {self.thing}"


class Invoice(models.Model):
    """What it costs; written by the worker. Two for one order would be a mistake."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="invoices")
    amount = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.amount} for {self.order}"
