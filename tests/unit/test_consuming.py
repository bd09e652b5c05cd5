"""Claimed messages on their way to consumers: none is forgotten, whatever fails in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import kombu_core
from kombu_core.exceptions import (
    ConnectionLostError,
    ContentTooLargeError,
    EncodeError,
    LeaseLostError,
    OperationalError,
    PublishRejectedError,
)
from kombu_core.message import Envelope, Message
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual import session
from kombu_core.virtual.broker import QUARANTINE
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.store import Batch, Claim, Counts, Want
from kombu_core.virtual.transport import VirtualTransport
from tests.unit.watched import Store, Transport, count, drain, put


@pytest.fixture
def transport() -> Transport:
    transport = Transport(TransportParameters(parse("memory://"), {}))
    transport.connect()
    return transport


@pytest.fixture
def channel(transport: Transport) -> VirtualChannel:
    channel = transport.channel()
    channel.queue_declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("q", arguments=arguments)
    return channel


class Refusal:
    """Refuses the commits that put into a queue, until it is lifted."""

    def __init__(self, store: Store, queue: str, error: Exception) -> None:
        self.queue, self.error = queue, error
        store.on_commit = self

    def __call__(self, batch: Batch) -> None:
        if any(put.queue == self.queue for put in batch.puts):
            raise self.error


# -- what fails between claim and delivery -----------------------------------------------------


@pytest.mark.parametrize("way", ["consume", "get"])
@pytest.mark.parametrize("trouble", ["expired", "broken"])
def test_what_was_claimed_goes_back_if_a_message_cannot_be_put_away(
    transport: Transport, channel: VirtualChannel, way: str, trouble: str
) -> None:
    got: list[Message] = []
    put(transport, b"1")
    if trouble == "expired":
        put(transport, b"x", ttl=0.0)
    else:
        put(transport, b"broken")
    put(transport, b"2")
    target = "dead" if trouble == "expired" else QUARANTINE
    Refusal(transport.store, target, ContentTooLargeError("its headers are too large"))

    def look() -> None:
        if way == "consume":
            transport.drain_events(timeout=0)
        else:
            while (message := channel.basic_get("q")) is not None:
                got.append(message)

    if way == "consume":
        channel.basic_consume("q", got.append)
    with pytest.raises(ContentTooLargeError):
        look()
    held = len(got)
    assert count(transport) == Counts(3 - held, held, 0)
    transport.store.on_commit = None
    if way == "consume":
        drain(transport)
    else:
        look()
    assert [message.body for message in got] == [b"1", b"2"]
    assert [message.redelivered for message in got] == [False, False]
    assert count(transport, target).ready == 1


def test_messages_that_a_keeper_cannot_expire_go_back(
    transport: Transport, channel: VirtualChannel
) -> None:
    transport.parts.session.begin()
    put(transport, b"1", b"2", ttl=0.0)
    Refusal(transport.store, "dead", ContentTooLargeError("no"))
    with pytest.raises(ContentTooLargeError):
        transport.parts.broker.expire(["q"])
    assert count(transport) == Counts(2, 0, 0)


@pytest.mark.parametrize("way", ["expired", "rejected", "maxlen"])
def test_a_dead_letter_that_cannot_be_stored_goes_to_quarantine_and_blocks_nothing(
    transport: Transport, channel: VirtualChannel, way: str
) -> None:
    Refusal(transport.store, "dead", EncodeError("The headers take too many bytes"))
    limits = {"x-max-length": 0, "x-overflow": "reject-publish-dlx"} if way == "maxlen" else {}
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("full", arguments={**dead, **limits})
    if way == "maxlen":
        with pytest.raises(PublishRejectedError):
            channel.basic_publish(Envelope(b"1", {}, {"h": 1}, "", "full"))
    else:
        put(transport, b"1", queue="full", ttl=0.0 if way == "expired" else None)
        found = channel.basic_get("full")
        if found is not None:
            found.reject()
    assert count(transport, "full") == count(transport, "dead") == Counts(0, 0, 0)
    kept = channel.transport.parts.broker.fetch(QUARANTINE)
    assert kept is not None
    assert isinstance(kept.content, Envelope)
    assert kept.content.body == b"1"
    assert kept.content.headers["x-quarantine-queue"] == "full"
    assert "too many bytes" in kept.content.headers["x-quarantine-reason"]


@pytest.mark.parametrize("method", ["nack", "recover", "tx_commit"])
def test_a_settle_that_fails_can_be_tried_again(
    transport: Transport, channel: VirtualChannel, method: str
) -> None:
    put(transport, b"1", b"2")
    if method == "tx_commit":
        channel.tx_select()
    for _ in range(2):
        assert channel.basic_get("q") is not None
    if method == "tx_commit":
        channel.basic_ack(2, multiple=True)

    def settle() -> None:
        if method == "nack":
            channel.basic_nack(2, multiple=True)
        elif method == "recover":
            channel.basic_recover()
        else:
            channel.tx_commit()

    errors: list[Exception] = [OperationalError("busy")]

    def fail(batch: Batch) -> None:
        if errors and (batch.acks or batch.releases):
            raise errors.pop()

    transport.store.on_commit = fail
    with pytest.raises(OperationalError):
        settle()
    assert count(transport).claimed == 2
    if method == "tx_commit":
        channel.basic_ack(2, multiple=True)
    settle()
    assert count(transport) == (Counts(0, 0, 0) if method == "tx_commit" else Counts(2, 0, 0))


def test_a_channel_that_cannot_give_back_gives_the_session_up(
    transport: Transport, channel: VirtualChannel
) -> None:
    put(transport, b"1")
    assert channel.basic_get("q") is not None

    def fail(batch: Batch) -> None:
        raise ConnectionLostError("cut")

    transport.store.on_commit = fail
    with pytest.raises(ConnectionLostError):
        channel.close()
    assert not transport.is_connected
    store, transport.store.on_commit = transport.store, None
    transport.close()
    assert store.count("q") == Counts(1, 0, 0)


def test_an_ack_of_many_sends_all_though_one_is_lost(
    transport: Transport, channel: VirtualChannel
) -> None:
    put(transport, *[b"x"] * 100)
    for _ in range(100):
        channel.basic_get("q")
    transport.parts.broker.store.end(transport.parts.session.id)
    transport.parts.broker.store.begin("other", 60.0)
    (lost,) = transport.store.claim([Want("q", 1)], "other", 1)
    with pytest.raises(LeaseLostError):
        channel.basic_ack(0, multiple=True)
    assert transport.store.count("q").claimed == 1, lost


def test_claims_that_were_lost_block_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a store that can lose a claim of a session that lives."""
    with kombu_core.Connection("memory://") as connection:
        queue = kombu_core.Queue("q")(connection)
        queue.declare()
        for number in range(9):
            connection.Producer().publish(number, "q")
        got: list[kombu_core.Message] = []
        with connection.Consumer([queue], on_message=got.append, prefetch_count=4):
            while len(got) < 4:
                connection.drain_events(timeout=5)
            transport = connection.transport
            assert isinstance(transport, VirtualTransport)
            broker = transport.parts.broker
            acknowledge = broker.acknowledge

            def lose_one(claims: Sequence[Claim]) -> Sequence[Claim]:
                acknowledge(claims)
                return claims[:1]

            with monkeypatch.context() as patch:
                patch.setattr(broker, "acknowledge", lose_one)
                patch.setattr(session, "ACK_BATCH", 1)
                with pytest.raises(LeaseLostError):
                    got[-1].channel.basic_ack(got[-1].delivery_tag, multiple=True)
            while len(got) < 8:
                connection.drain_events(timeout=5)
