"""Notifications of PostgreSQL: none is missed, whenever it comes."""

from __future__ import annotations

import select

import psycopg
import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.virtual.listening import Notifications, channel_of

pytestmark = pytest.mark.broker("postgres")


def test_what_comes_together_with_an_answer_is_heard(postgres_server: BrokerServer) -> None:
    url = postgres_server.url
    channel = channel_of("messages", 'a "queue"; é')
    with (
        psycopg.connect(url, autocommit=True) as listener,
        psycopg.connect(url, autocommit=True) as publisher,
    ):
        notifications = Notifications(listener)
        listener.execute(f'LISTEN "{channel}"')
        assert notifications.heard() == set()
        publisher.execute("SELECT pg_notify(%s, '')", (channel,))
        # The server tells of it before it is ready for the next statement.
        listener.execute("SELECT pg_sleep(0.2)")
        assert notifications.heard() == {channel}
        assert notifications.heard() == set()
        publisher.execute("SELECT pg_notify(%s, '')", (channel,))
        assert select.select([notifications], [], [], 10)[0]
        assert notifications.heard() == {channel}
