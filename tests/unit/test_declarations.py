"""Declaring, binding and deleting as transactions: nothing is left over, nobody is overtaken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from kombu_core.exceptions import NotFoundError, PreconditionFailedError, ResourceLockedError
from kombu_core.memory import MemoryStore, MemoryTransport, VirtualHost
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.store import Batch, Drop, Put, WriteResult


class Store(MemoryStore):
    """Lets somebody else be faster, before the next write."""

    before_write: Callable[[], object] | None = None

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        before, self.before_write = self.before_write, None
        if before is not None:
            before()
        return super().write(changes, expect, drops)


class Transport(MemoryTransport):
    """A transport on such a store."""

    store: Store
    host: VirtualHost

    def open_store(self) -> Store:
        self.store = Store(self.host)
        return self.store


@pytest.fixture
def host() -> VirtualHost:
    return VirtualHost("x")


def connect(host: VirtualHost) -> Transport:
    transport = Transport(TransportParameters(parse("memory://"), {}))
    transport.host = host
    transport.connect()
    return transport


@pytest.fixture
def transport(host: VirtualHost) -> Iterator[Transport]:
    transport = connect(host)
    yield transport
    transport.close()


@pytest.fixture
def channel(transport: Transport) -> VirtualChannel:
    return transport.channel()


@pytest.fixture
def other(host: VirtualHost) -> Iterator[Transport]:
    transport = connect(host)
    yield transport
    transport.close()


def keys(host: VirtualHost) -> list[str]:
    return list(host.keys)


# -- what is left ----------------------------------------------------------------------------


def test_deleting_everything_leaves_nothing(host: VirtualHost, channel: VirtualChannel) -> None:
    channel.exchange_declare("e", "topic")
    channel.exchange_declare("f", "fanout")
    channel.queue_declare("q")
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("q", "e", "a.*")
    channel.queue_bind("q", "e", "b.*")
    channel.queue_bind("mine", "f")
    channel.exchange_bind("f", "e", "#")
    channel.exchange_bind("e", "e", "loop")
    channel.basic_consume("q", print, consumer_tag="t")
    channel.basic_cancel("t")
    for exchange in "ef":
        channel.exchange_delete(exchange)
    for queue in ("q", "mine"):
        channel.queue_delete(queue)
    assert keys(host) == []


def test_a_connection_that_ends_takes_what_is_its_own(
    host: VirtualHost, other: Transport, channel: VirtualChannel
) -> None:
    channel.queue_declare("shared")
    before = keys(host)
    mine = other.channel()
    mine.queue_declare("", exclusive=True)
    mine.queue_declare("mine", exclusive=True)
    mine.basic_consume("shared", print)
    mine.basic_consume("mine", print)
    assert channel.queue_declare("shared", passive=True).consumer_count == 1
    other.close()
    assert keys(host) == before
    assert channel.queue_declare("shared", passive=True).consumer_count == 0


def test_a_dead_connection_is_cleaned_up_by_another(
    host: VirtualHost, transport: Transport, channel: VirtualChannel
) -> None:
    channel.queue_declare("shared")
    before = keys(host)
    store = MemoryStore(host)
    dead = connect(host)
    dead.channel().queue_declare("mine", exclusive=True)
    dead.channel().basic_consume("shared", print)
    session = dead.parts.session
    session.stop()
    store.begin(session.id, -1.0)
    transport.parts.session.reap()
    assert keys(host) == before
    assert store.reap() == []


def test_auto_delete_queues_and_exchanges_go_with_their_last_user(
    host: VirtualHost, channel: VirtualChannel
) -> None:
    channel.exchange_declare("e", auto_delete=True)
    channel.queue_declare("q", auto_delete=True)
    channel.queue_bind("q", "e", "k")
    tags = [channel.basic_consume("q", print) for _ in range(2)]
    channel.basic_cancel(tags[0])
    assert "queue/q" in keys(host)
    channel.basic_cancel(tags[1])
    assert keys(host) == []


# -- conditions ------------------------------------------------------------------------------


def test_a_queue_in_use_or_with_messages_is_spared(
    host: VirtualHost, transport: Transport, channel: VirtualChannel
) -> None:
    channel.queue_declare("q")
    transport.store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    consuming = transport.channel()
    tag = consuming.basic_consume("q", print)
    for condition in ({"if_unused": True}, {"if_empty": True}):
        with pytest.raises(PreconditionFailedError):
            transport.channel().queue_delete("q", **condition)
    consuming.basic_cancel(tag)
    assert transport.channel().queue_delete("q", if_unused=True) == 1
    assert transport.channel().queue_delete("q") == 0


def test_an_exchange_in_use_is_spared(transport: Transport) -> None:
    channel = transport.channel()
    channel.exchange_declare("e")
    channel.queue_declare("q")
    channel.queue_bind("q", "e", "k")
    with pytest.raises(PreconditionFailedError):
        channel.exchange_delete("e", if_unused=True)
    channel = transport.channel()
    channel.queue_unbind("q", "e", "k")
    channel.queue_unbind("q", "e", "k")
    channel.exchange_delete("e", if_unused=True)
    channel.exchange_delete("e")


def test_nobody_else_touches_an_exclusive_queue(transport: Transport, other: Transport) -> None:
    channel = transport.channel()
    channel.exchange_declare("e")
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("mine", "e", "k")
    calls: list[Callable[[VirtualChannel], object]] = [
        lambda channel: channel.queue_declare("mine", exclusive=True),
        lambda channel: channel.queue_declare("mine", passive=True),
        lambda channel: channel.queue_bind("mine", "e"),
        lambda channel: channel.queue_unbind("mine", "e", "k"),
        lambda channel: channel.queue_purge("mine"),
        lambda channel: channel.queue_delete("mine"),
        lambda channel: channel.basic_get("mine"),
        lambda channel: channel.basic_consume("mine", print),
    ]
    for call in calls:
        with pytest.raises(ResourceLockedError):
            call(other.channel())


# -- somebody is faster ----------------------------------------------------------------------


def test_a_binding_to_a_queue_that_is_just_deleted_is_not_found(
    host: VirtualHost, transport: Transport, other: Transport
) -> None:
    channel = transport.channel()
    channel.exchange_declare("e")
    channel.queue_declare("q")
    transport.store.before_write = lambda: other.channel().queue_delete("q")
    with pytest.raises(NotFoundError, match="no queue 'q'"):
        channel.queue_bind("q", "e", "k")
    assert keys(host) == ["exchange/e"]


def test_a_deletion_takes_the_binding_that_was_just_made(
    host: VirtualHost, transport: Transport, other: Transport
) -> None:
    channel = transport.channel()
    channel.exchange_declare("e")
    for delete, left in (
        (lambda: channel.queue_delete("q"), ["exchange/e"]),
        (lambda: channel.exchange_delete("e"), ["queue/q"]),
    ):
        channel.queue_declare("q")
        transport.store.before_write = lambda: other.channel().queue_bind("q", "e", "late")
        delete()
        assert keys(host) == left


def test_two_declarations_at_once_agree(transport: Transport, other: Transport) -> None:
    channel = transport.channel()
    transport.store.before_write = lambda: other.channel().queue_declare("q")
    assert channel.queue_declare("q").queue == "q"
    transport.store.before_write = lambda: other.channel().queue_declare("p", durable=True)
    with pytest.raises(PreconditionFailedError, match="durable"):
        channel.queue_declare("p")


def test_an_auto_delete_queue_stays_for_who_just_began_to_consume(
    transport: Transport, other: Transport
) -> None:
    channel = transport.channel()
    channel.queue_declare("q", auto_delete=True)
    tag = channel.basic_consume("q", print)
    late = other.channel()
    transport.store.before_write = lambda: late.basic_consume("q", print)
    channel.basic_cancel(tag)
    assert late.queue_declare("q", passive=True).consumer_count == 1
