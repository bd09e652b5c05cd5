"""The project's own tests: what is published is looked at in the transaction of the test."""

from __future__ import annotations

from django.test import TestCase

from kombu_django.models import Message
from shop.models import Order


class OrderTest(TestCase):
    """In the database that `manage.py test` makes, in memory."""

    def test_an_order_is_published(self) -> None:
        self.client.post("/", {"thing": "lamp"})
        assert Order.objects.count() == 1
        assert Message.objects.filter(queue="orders").count() == 1

    def test_a_broken_order_is_not(self) -> None:
        with self.assertRaises(ValueError):  # noqa: PT027  (the project has no pytest)
            self.client.post("/", {"thing": "broken"})
        assert Order.objects.count() == 0
        assert Message.objects.filter(queue="orders").count() == 0
