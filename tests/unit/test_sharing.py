"""Consumers beside each other: in turn, within shared limits, and in several threads."""

from __future__ import annotations

import threading

import pytest

from kombu_core.exceptions import OperationTimeoutError
from kombu_core.message import Message
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.store import Counts
from tests.unit.watched import Transport, count, drain, put

DEADLINE = 10.0


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


# -- several consumers -----------------------------------------------------------------------


def test_a_global_limit_is_shared_by_the_consumers_of_a_channel(
    transport: Transport, channel: VirtualChannel
) -> None:
    got: list[Message] = []
    channel.basic_qos(0, 3, apply_global=True)
    for _ in range(2):
        channel.basic_consume("q", got.append)
    put(transport, *[b"x"] * 10)
    drain(transport)
    assert len(got) == 3
    assert count(transport) == Counts(7, 3, 0)
    got[0].ack()
    drain(transport)
    assert len(got) == 4


def test_two_consumers_of_a_queue_are_served_in_turn(
    transport: Transport, channel: VirtualChannel
) -> None:
    got: list[Message] = []
    for tag in ("a", "b"):
        channel.basic_consume("q", got.append, consumer_tag=tag)
    put(transport, *[b"x"] * 6)
    drain(transport)
    assert sorted(message.consumer_tag for message in got) == ["a"] * 3 + ["b"] * 3


def test_what_a_cancelled_consumer_did_not_get_goes_back_unmarked(
    transport: Transport, channel: VirtualChannel
) -> None:
    got: list[Message] = []
    channel.basic_consume("q", got.append, consumer_tag="a")
    put(transport, b"1", b"2", b"3")
    transport.drain_events(timeout=0)
    channel.basic_cancel("a")
    assert count(transport) == Counts(2, 1, 0)
    again = channel.basic_get("q")
    assert again is not None
    assert (again.body, again.redelivered) == (b"2", False)


# -- threads ---------------------------------------------------------------------------------


def test_a_message_on_its_way_to_a_channel_that_is_closed_goes_back(
    transport: Transport, channel: VirtualChannel
) -> None:
    got: list[Message] = []
    channel.basic_consume("q", got.append)
    put(transport, b"1")
    dispatcher = transport.parts.dispatcher
    dispatcher.fill()
    delivery = dispatcher.take()
    assert delivery is not None
    channel.close()  # As another thread does in this moment.
    channel.deliver(delivery)
    assert got == []
    assert count(transport) == Counts(1, 0, 0)


def test_cancelling_while_another_thread_drains_loses_nothing_and_keeps_the_order(
    transport: Transport, channel: VirtualChannel
) -> None:
    total = 3000
    got: list[int] = []

    def take(message: Message) -> None:
        got.append(int(message.body))
        message.ack()

    channel.basic_consume("q", take)
    put(transport, *[str(number).encode() for number in range(total)])
    is_done = threading.Event()

    def come_and_go() -> None:
        own = transport.channel()
        own.queue_declare("other")
        while not is_done.is_set():
            tag = own.basic_consume("other", Message.ack)
            own.basic_cancel(tag)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        while len(got) < total:
            transport.drain_events(timeout=DEADLINE)
    finally:
        is_done.set()
        thread.join(DEADLINE)
    assert got == list(range(total))


def test_draining_keeps_its_timeout_while_another_thread_drains(transport: Transport) -> None:
    channel = transport.channel()
    channel.queue_declare("q")
    is_inside, may_end = threading.Event(), threading.Event()

    def hold(message: Message) -> None:
        is_inside.set()
        may_end.wait(DEADLINE)

    channel.basic_consume("q", hold)
    put(transport, b"1")
    thread = threading.Thread(target=transport.drain_events, args=(DEADLINE,))
    thread.start()
    assert is_inside.wait(DEADLINE)
    with pytest.raises(OperationTimeoutError):
        transport.drain_events(timeout=0.01)
    may_end.set()
    thread.join(DEADLINE)
