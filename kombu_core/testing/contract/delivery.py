"""Deliveries: what a consumer gets, in which order, and what its callback may do."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import BrokerError, NotFoundError, OperationTimeoutError
from kombu_core.message import Message
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    drain_quiet,
    drain_until,
    fetch,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel


class HandlerError(Exception):
    """An application's own error."""


class DeliveryContract(ContractFixtures):
    """basic.get, basic.consume, basic.cancel and callbacks."""

    def test_an_empty_queue_gives_none(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        assert channel.basic_get(queue) is None

    def test_messages_come_in_order(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        bodies = [str(number) for number in range(30)]
        publish(channel, "", queue, *bodies[:20])
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)
        publish(channel, "", queue, *bodies[20:])
        drain_until(connection, lambda: len(inbox) == 30)
        assert inbox.bodies == bodies

    def test_a_message_tells_where_it_comes_from(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "topic")
        channel.queue_declare(queue := name())
        channel.queue_bind(queue, exchange, "a.#")
        inbox = Inbox()
        tag = channel.basic_consume(queue, inbox, consumer_tag="my-tag")
        publish(channel, exchange, "a.b", "1", "2")
        drain_until(connection, lambda: len(inbox) == 2)
        first, second = inbox.messages
        assert tag == first.consumer_tag == "my-tag"
        assert first.envelope.exchange == exchange
        assert first.envelope.routing_key == "a.b"
        assert first.delivery_info["exchange"] == exchange
        assert not first.redelivered
        assert first.channel is channel
        assert (first.delivery_tag, second.delivery_tag) == (1, 2)

    def test_the_broker_names_a_nameless_consumer(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        first, second = (channel.basic_consume(queue, Inbox()) for _ in range(2))
        assert first.startswith("amq.ctag-")
        assert first != second

    def test_a_consumers_tag_belongs_to_its_channel(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(queue := name())
        for channel in (first, second):
            assert channel.basic_consume(queue, Inbox(), consumer_tag="same") == "same"
        with pytest.raises(BrokerError):
            second.basic_consume(queue, Inbox(), consumer_tag="same")

    def test_consuming_from_no_queue_is_not_found(self, channel: Channel, name: Names) -> None:
        with pytest.raises(NotFoundError):
            channel.basic_consume(name(), Inbox())
        assert not channel.is_open

    def test_getting_from_no_queue_is_not_found(self, channel: Channel, name: Names) -> None:
        with pytest.raises(NotFoundError):
            channel.basic_get(name())
        assert not channel.is_open

    def test_a_message_without_acknowledgement_is_gone(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "got", "consumed")
        message = fetch(channel, queue, no_ack=True)
        assert message.acknowledged
        inbox = Inbox()
        channel.basic_consume(queue, inbox, no_ack=True)
        drain_until(connection, lambda: len(inbox) == 1)
        assert inbox.messages[0].acknowledged
        connection.release()
        assert take(other, queue, 0) == []

    def test_a_cancelled_consumer_gets_nothing_more(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        tag = channel.basic_consume(queue, inbox)
        publish(channel, "", queue, "1")
        drain_until(connection, lambda: len(inbox) == 1)
        channel.basic_cancel(tag)
        publish(channel, "", queue, "2")
        drain_quiet(connection)
        assert inbox.bodies == ["1"]
        assert take(channel, queue, 1) == ["2"]

    def test_what_a_cancelled_consumer_holds_can_still_be_settled(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        inbox = Inbox()
        tag = channel.basic_consume(queue, inbox)
        publish(channel, "", queue, "1", "2")
        drain_until(connection, lambda: len(inbox) == 2)
        channel.basic_cancel(tag)
        assert ready(channel, queue) == 0
        inbox.messages[0].ack()
        inbox.messages[1].requeue()
        assert take(channel, queue, 1) == ["2"]

    def test_cancelling_an_unknown_tag_is_no_error(self, channel: Channel) -> None:
        channel.basic_cancel("never heard of")
        assert channel.is_open

    def test_a_tag_can_be_used_again_after_its_cancel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        first, second = Inbox(ack=True), Inbox(ack=True)
        channel.basic_consume(queue, first, consumer_tag="again")
        channel.basic_cancel("again")
        channel.basic_consume(queue, second, consumer_tag="again")
        publish(channel, "", queue, "1")
        drain_until(connection, lambda: len(second) == 1)
        assert len(first) == 0

    @pytest.mark.parametrize("error", [HandlerError, KeyError, OSError, TimeoutError, ValueError])
    def test_an_error_of_a_callback_comes_out_as_it_is(
        self,
        connection: ContractConnection,
        channel: Channel,
        name: Names,
        error: type[Exception],
    ) -> None:
        channel.queue_declare(queue := name())
        seen: list[str] = []
        problem = error("the application's own")

        def handle(message: Message) -> None:
            seen.append(message.body.decode())
            message.ack()
            if len(seen) == 1:
                raise problem

        channel.basic_consume(queue, handle)
        publish(channel, "", queue, "1", "2")
        with pytest.raises(error) as caught:
            drain_until(connection, lambda: len(seen) == 2)
        assert caught.value is problem
        assert not isinstance(caught.value, OperationTimeoutError)
        drain_until(connection, lambda: len(seen) == 2)
        assert seen == ["1", "2"]
        assert channel.is_open

    def test_a_callback_may_use_its_channel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        queue, answers = name(), name("answers")
        channel.queue_declare(queue)
        seen: list[str] = []

        def handle(message: Message) -> None:
            seen.append(message.body.decode())
            channel.queue_declare(answers)
            publish(channel, "", answers, f"answer to {seen[-1]}")
            message.ack()
            if len(seen) == 2:
                channel.basic_cancel(message.consumer_tag)

        channel.basic_consume(queue, handle)
        publish(channel, "", queue, "1", "2")
        drain_until(connection, lambda: len(seen) == 2)
        publish(channel, "", queue, "3")
        drain_quiet(connection)
        assert take(channel, answers, 2) == ["answer to 1", "answer to 2"]
        assert take(channel, queue, 1) == ["3"]

    def test_a_consumer_gets_what_it_publishes_to_itself(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        seen: list[str] = []

        def handle(message: Message) -> None:
            seen.append(message.body.decode())
            if len(seen) < 5:
                publish(channel, "", queue, str(len(seen)))
            message.ack()

        channel.basic_consume(queue, handle)
        publish(channel, "", queue, "0")
        drain_until(connection, lambda: len(seen) == 5)
        assert seen == ["0", "1", "2", "3", "4"]

    @requires("flow")
    def test_flow_pauses_and_resumes(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)
        channel.flow(False)
        publish(channel, "", queue, "1", "2")
        drain_quiet(connection)
        assert len(inbox) == 0
        channel.flow(True)
        drain_until(connection, lambda: len(inbox) == 2)
        assert inbox.bodies == ["1", "2"]
