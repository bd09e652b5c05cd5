"""The app."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from shop.topology import declare


class ShopConfig(AppConfig):
    """`shop` in INSTALLED_APPS, behind `kombu_django`."""

    name = "shop"

    def ready(self) -> None:
        """Let `migrate` create the queues."""
        post_migrate.connect(declare, sender=self)
