"""Both AMQP transports beside kombu's, and beside bare py-amqp and bare pika.

Messages are persistent and the queue is durable, so that a confirm means the broker has written it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

import amqp
import kombu
import pika
from harness import BODY, Row, medians, rates
from rivals import Rival

import kombu_core
from kombu_core.testing.brokers import RabbitMQServer

CONFIRMED = 2_000
SENT = 10_000
CONSUMED = 10_000
PREFETCH = 100


def rows(rounds: int) -> list[Row]:
    """Measure confirmed, batched and unconfirmed publishes, and consuming."""
    with RabbitMQServer() as server:
        found = _rows("amqp", server.url, _BarePyAmqp(server.url), rounds)
        found += _rows("pika", server.url, _BarePika(server.url), rounds)
    return found


def _rows(scheme: str, url: str, bare: _BarePyAmqp | _BarePika, rounds: int) -> list[Row]:
    own_url = url.replace("amqp:", f"{scheme}:", 1)
    ours = Rival(kombu_core, own_url, f"bench-{scheme}")
    careless = Rival(kombu_core, own_url, f"loose-{scheme}", transport_options={"confirms": False})
    theirs = Rival(kombu, url, f"kombu-{scheme}", transport_options={"confirm_publish": True})
    their_careless = Rival(kombu, url, f"kombu-loose-{scheme}")
    single, batched, sent, consumed = [], [], [], []
    for _ in range(rounds):
        single.append(rates(CONFIRMED, 1, ours.publish, theirs.publish, bare.publish_confirmed))
        batched.append(
            [
                *rates(SENT, 1, ours.publish_batch),
                *rates(CONFIRMED, 1, theirs.publish, bare.publish_confirmed),
            ]
        )
        sent.append(rates(SENT, 1, careless.publish, their_careless.publish, bare.publish))
        for rival in (ours, careless, theirs, their_careless, bare):
            rival.purge()
        ours.fill(CONSUMED)
        their_careless.fill(CONSUMED)
        bare.publish(CONSUMED)
        consumed.append(rates(CONSUMED, 1, ours.consume, their_careless.consume, bare.consume))
    for rival in (ours, careless, theirs, their_careless, bare):
        rival.close()
    return [
        Row.of(f"{scheme} publish, each confirmed", medians(single), goal=1.0),
        Row.of(f"{scheme} publish in batches, confirmed", medians(batched), goal=8.0),
        Row.of(f"{scheme} publish, unconfirmed", medians(sent), goal=1.0),
        Row.of(f"{scheme} consume + ack, prefetch {PREFETCH}", medians(consumed), goal=1.3),
    ]


class _BarePyAmqp:
    """py-amqp alone, one ack a message."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = amqp.Connection(
            f"{parts.hostname}:{parts.port}", userid="guest", password="guest"
        )
        self._connection.connect()
        self._channel = self._connection.channel()
        self._channel.queue_declare("bare", durable=True, auto_delete=False)
        self._confirmed = self._connection.channel()

    def publish(self, count: int) -> None:
        self._publish(self._channel.basic_publish, count)

    def publish_confirmed(self, count: int) -> None:
        self._publish(self._confirmed.basic_publish_confirm, count)

    @staticmethod
    def _publish(publish: Callable[..., object], count: int) -> None:
        for _ in range(count):
            message = amqp.Message(
                json.dumps(BODY).encode(), content_type="application/json", delivery_mode=2
            )
            publish(message, "", "bare")

    def consume(self, count: int) -> None:
        left = count

        def handle(message: amqp.Message) -> None:
            nonlocal left
            left -= 1
            json.loads(message.body)
            self._channel.basic_ack(message.delivery_tag)

        self._channel.basic_qos(0, PREFETCH, False)
        tag = self._channel.basic_consume("bare", callback=handle)
        while left:
            self._connection.drain_events(timeout=30)
        self._channel.basic_cancel(tag)

    def purge(self) -> None:
        self._channel.queue_purge("bare")

    def close(self) -> None:
        self._connection.close()


class _BarePika:
    """pika's blocking connection alone, one ack a message."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters(parts.hostname, parts.port, heartbeat=0)
        )
        self._channel = self._connection.channel()
        self._channel.queue_declare("bare-pika", durable=True)
        self._confirmed = self._connection.channel()
        self._confirmed.confirm_delivery()

    def publish(self, count: int) -> None:
        self._publish(self._channel, count)
        self._connection.process_data_events()

    def publish_confirmed(self, count: int) -> None:
        self._publish(self._confirmed, count)

    @staticmethod
    def _publish(channel: pika.adapters.blocking_connection.BlockingChannel, count: int) -> None:
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        for _ in range(count):
            channel.basic_publish("", "bare-pika", json.dumps(BODY).encode(), properties)

    def consume(self, count: int) -> None:
        left = count
        self._channel.basic_qos(prefetch_count=PREFETCH)
        for method, _, body in self._channel.consume("bare-pika"):
            json.loads(body)
            self._channel.basic_ack(method.delivery_tag)
            left -= 1
            if not left:
                break
        self._channel.cancel()

    def purge(self) -> None:
        self._channel.queue_purge("bare-pika")

    def close(self) -> None:
        self._connection.close()
