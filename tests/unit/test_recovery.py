"""After a lost connection: what was declared is there again, and who used it goes on."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Exchange, Producer, Queue
from kombu_core.exceptions import (
    ConnectError,
    ConnectionLostError,
    KombuError,
    LeaseLostError,
    PreconditionFailedError,
)
from kombu_core.message import Message
from kombu_core.retry import Backoff
from kombu_core.transport import Channel
from tests.unit.faulty import Faults

SOON = Backoff(start=0.0, step=0.0)


def cut(faults: Faults) -> None:
    faults.transports[-1].cut()


def tags_of(faults: Faults, queue: str) -> list[str]:
    transport = faults.keeper.transport
    parts: Any = getattr(transport, "parts")  # noqa: B009
    return [record.tag for record in parts.declarations.consumers(queue)]


def forget_topology(faults: Faults, *queues: str) -> None:
    """Let queues vanish, as a broker that lost them would."""
    for queue in queues:
        faults.keeper.channel().queue_delete(queue)


def exists(faults: Faults, queue: str) -> bool:
    try:
        faults.keeper.channel().queue_declare(queue, passive=True)
    except KombuError:
        return False
    return True


# -- declarations ----------------------------------------------------------------------------


def test_what_was_declared_is_declared_again(faults: Faults) -> None:
    with faults.open() as connection:
        topic = Exchange("topic", "topic")
        Queue("bound", topic, "a.*")(connection).declare()
        Queue("deleted")(connection).declare()
        Queue("deleted")(connection).delete()
        cut(faults)
        forget_topology(faults, "bound")
        faults.keeper.channel().exchange_delete("topic")
        assert not connection.connected
        connection.connect()
        faults.keeper.Producer(exchange=topic, auto_declare=False).publish("x", "a.b")
        assert Queue("bound")(connection).get() is not None
        assert not exists(faults, "deleted")


def test_the_last_declaration_of_a_name_counts(faults: Faults) -> None:
    with faults.open() as connection:
        Queue("q", max_priority=1)(connection).declare()
        faults.keeper.channel().queue_delete("q")
        Queue("q", max_priority=2)(connection).declare()
        cut(faults)
        connection.connect()


def test_releasing_a_connection_forgets_it_all(faults: Faults) -> None:
    connection = faults.open()
    consumer = Consumer(connection, Queue("q"), callbacks=[print])
    consumer.consume()
    connection.release()
    forget_topology(faults, "q")
    with connection:
        connection.connect()
        assert not exists(faults, "q")
        cut(faults)
        connection.connect()
        assert not exists(faults, "q")


# -- users -----------------------------------------------------------------------------------


def consumer_of(
    channel: Channel | Connection, *names: str, prefix: str = "", **options: Any
) -> tuple[Consumer, list[str]]:
    got: list[str] = []

    def take(body: Any, message: Message) -> None:
        got.append(body)
        if not message.acknowledged:
            message.ack()

    queues = [Queue(name) for name in names]
    return Consumer(channel, queues, callbacks=[take], tag_prefix=prefix, **options), got


def test_consumers_go_on_with_their_tags_and_limits(faults: Faults) -> None:
    with faults.open() as connection:
        consumer, got = consumer_of(connection, "a", "b", "idle", prefix="t", prefetch_count=1)
        consumer.consume()
        consumer.cancel_by_queue("idle")
        before = {queue: tags_of(faults, queue) for queue in ("a", "b")}
        assert before == {"a": ["t1"], "b": ["t2"]}
        cut(faults)
        faults.keeper.Producer().publish("1", "a")
        faults.keeper.Producer().publish("2", "b")
        connection.connect()
        assert {queue: tags_of(faults, queue) for queue in ("a", "b")} == before
        assert tags_of(faults, "idle") == []
        for _ in range(2):
            connection.drain_events(timeout=1)
        assert sorted(got) == ["1", "2"]
        assert consumer.consuming_from("a")


def test_a_delivery_of_the_lost_connection_comes_again(faults: Faults) -> None:
    messages: list[Message] = []
    with faults.open() as connection:
        consumer = Consumer(connection, Queue("q"), on_message=messages.append)
        consumer.consume()
        faults.keeper.Producer().publish("1", "q")
        connection.drain_events(timeout=1)
        cut(faults)
        with pytest.raises((ConnectionLostError, LeaseLostError)):
            messages[0].reject(requeue=True)
        connection.connect()
        connection.drain_events(timeout=1)
        assert [message.redelivered for message in messages] == [False, True]
        messages[1].ack()


def test_no_ack_of_one_call_outlives_the_connection(faults: Faults) -> None:
    messages: list[Message] = []
    with faults.open() as connection:
        consumer = Consumer(connection, Queue("q"), on_message=messages.append)
        consumer.consume(no_ack=True)
        cut(faults)
        connection.connect()
        faults.keeper.Producer().publish("1", "q")
        connection.drain_events(timeout=1)
        assert messages[0].acknowledged


def test_who_shared_a_channel_shares_one_again(faults: Faults) -> None:
    with faults.open() as connection:
        channel = connection.channel()
        one, other = consumer_of(connection, "a")[0], consumer_of(channel, "b")[0]
        producer = Producer(channel)
        late = Producer(connection)
        cut(faults)
        connection.connect()
        assert one.channel is connection.default_channel is late.channel
        assert other.channel is producer.channel
        assert other.channel not in (channel, one.channel)
        assert other.channel.is_open


def test_a_queue_that_the_broker_named_gets_another_name(faults: Faults) -> None:
    with faults.open() as connection:
        consumer, _ = consumer_of(connection, "", prefix="t")
        added = consumer.add_queue(Queue("", exclusive=True))
        consumer.consume()
        before = {queue.name for queue in consumer.queues}
        assert len(before) == 2
        assert added.name in before
        cut(faults)
        connection.connect()
        after = {queue.name for queue in consumer.queues}
        assert len(after) == 2
        assert not after & before
        assert all(map(consumer.consuming_from, after))


def test_a_consumer_that_only_its_channel_keeps_goes_on(faults: Faults) -> None:
    with faults.open() as connection:
        consumer_of(connection.channel(), "q", prefix="t")[0].consume()
        gc.collect()
        cut(faults)
        connection.connect()
        assert tags_of(faults, "q") == ["t1"]


# -- failing while recovering ----------------------------------------------------------------


@pytest.mark.parametrize("is_default", [True, False])
@pytest.mark.parametrize("at_call", [2, 3])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_recovery_that_fails_half_way_is_done_again(
    faults: Faults, is_default: bool, at_call: int, is_cut: bool
) -> None:
    """The second declaration of `b` is the recovery's own, the third the consumer's."""
    declarations = itertools.count(1)

    def on_declared(*answer: object) -> None:
        if next(declarations) == at_call:
            if is_cut:
                cut(faults)
            else:
                raise ValueError("the application's")

    with faults.open() as connection:
        channel = connection if is_default else connection.channel()
        queues = [Queue("a"), Queue("b", on_declared=on_declared), Queue("c")]
        got: list[str] = []
        consumer = Consumer(
            channel, queues, no_ack=True, callbacks=[lambda body, _: got.append(body)]
        )
        consumer.tag_prefix = "t"
        consumer.consume()
        cut(faults)
        with pytest.raises((ConnectionLostError, ValueError)):
            connection.connect()
        connection.connect()
        assert (consumer.channel is connection.default_channel) is is_default
        for number, queue in enumerate("abc", 1):
            assert tags_of(faults, queue) == [f"t{number}"]
            faults.keeper.Producer().publish(queue, queue)
            connection.drain_events(timeout=1)
        assert got == ["a", "b", "c"]


def test_draining_meets_what_recovery_could_not_restore(faults: Faults) -> None:
    with faults.open(recovery=SOON) as connection:
        consumer, got = consumer_of(connection, "q")
        consumer.consume()
        cut(faults)
        forget_topology(faults, "q")
        faults.keeper.channel().queue_declare("q", arguments={"x-max-priority": 3})
        for _ in range(2):
            with pytest.raises(PreconditionFailedError):
                connection.drain_events(timeout=1)
        forget_topology(faults, "q")
        connection.connect()
        faults.keeper.Producer().publish("1", "q")
        connection.drain_events(timeout=1)
        assert got == ["1"]


def test_draining_recovers_by_itself_if_it_may(faults: Faults) -> None:
    with faults.open(recovery=SOON) as connection:
        consumer, got = consumer_of(connection, "q")
        consumer.consume()
        cut(faults)
        faults.connect = [ConnectError("1"), ConnectError("2")]
        connection.drain_events(timeout=5)
        faults.keeper.Producer().publish("1", "q")
        connection.drain_events(timeout=1)
        assert got == ["1"]


def test_draining_raises_if_it_may_not_recover(faults: Faults) -> None:
    with faults.open() as connection:
        connection.connect()
        cut(faults)
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                connection.drain_events(timeout=1)
