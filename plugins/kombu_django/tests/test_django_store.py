"""The tests of a store on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core.testing.store import OpenStore, StoreContract
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_django.models import Document, Message, Session
from kombu_django.store import DjangoStore
from kombu_django.transport import DjangoTransport


class TestDjangoStore(StoreContract):
    """The tables are emptied before each test."""

    @pytest.fixture
    def store_class(self) -> type:
        return DjangoStore

    @pytest.fixture
    def open_store(self, alias: str) -> Iterator[OpenStore]:
        for model in (Document, Message, Session):
            model.objects.using(alias).all().delete()
        parameters = TransportParameters(parse(f"django://{alias}"), {})
        opened: list[DjangoStore] = []

        def open_one() -> DjangoStore:
            opened.append(DjangoTransport(parameters).open_store())
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()
