"""Settling: ack, nack, reject, requeue and recover, and where a message goes by them."""

from __future__ import annotations

import threading
import time

import pytest

from kombu_core.exceptions import MessageStateError, PreconditionFailedError
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    declare_bound,
    drain_until,
    fetch,
    fetch_many,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel


class SettlementContract(ContractFixtures):
    """What becomes of a delivered message."""

    def test_an_acknowledged_message_is_gone(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2")
        fetch(channel, queue).ack()
        connection.release()
        assert take(other, queue, 1) == ["2"]

    def test_an_acknowledgement_just_before_the_release_counts(
        self, connect: Connect, other: Channel, name: Names
    ) -> None:
        other.queue_declare(queue := name())
        for number in range(10):
            publish(other, "", queue, str(number))
            connection = connect()
            fetch(connection.channel(), queue).ack()
            time.sleep(number / 1000)  # A transport may send acknowledgements some time later.
            connection.release()
        assert take(other, queue, 0) == []

    def test_an_unacknowledged_message_is_nobody_elses(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2")
        fetch(channel, queue)
        assert ready(other, queue) == 1
        assert take(other, queue, 1) == ["2"]

    def test_multiple_acknowledges_all_up_to_it(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3", "4")
        messages = fetch_many(channel, queue, 4)
        messages[2].ack(multiple=True)
        connection.release()
        assert take(other, queue, 1) == ["4"]

    def test_multiple_spares_other_channels(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(queue := name())
        publish(first, "", queue, "1", "2", "3")
        fetch(second, queue)
        fetch_many(first, queue, 2)[1].ack(multiple=True)
        connection.release()
        assert take(other, queue, 1) == ["1"]

    def test_multiple_with_tag_zero_acknowledges_everything(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        first, second = name(), name()
        for queue in (first, second):
            channel.queue_declare(queue)
            publish(channel, "", queue, "1", "2")
            fetch_many(channel, queue, 2)
        channel.basic_ack(0, multiple=True)
        connection.release()
        assert take(other, first, 0) == []
        assert take(other, second, 0) == []

    def test_multiple_nack_requeues_all_up_to_it(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3", "4")
        messages = fetch_many(channel, queue, 4)
        channel.basic_nack(messages[2].delivery_tag, multiple=True)
        assert take(channel, queue, 3) == ["1", "2", "3"]

    def test_multiple_nack_without_requeue_drops_all_up_to_it(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        messages = fetch_many(channel, queue, 3)
        channel.basic_nack(messages[1].delivery_tag, multiple=True, requeue=False)
        connection.release()
        assert take(other, queue, 1) == ["3"]

    def test_a_rejected_message_is_gone(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        fetch(channel, queue).reject()
        connection.release()
        assert take(other, queue, 0) == []

    def test_a_requeued_message_goes_back_to_its_place(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        fetch(channel, queue).requeue()
        assert take(channel, queue, 3) == ["1", "2", "3"]

    def test_requeued_messages_keep_their_order(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3", "4", "5")
        one, _, three, four = fetch_many(channel, queue, 4)
        four.requeue()
        one.requeue()
        three.requeue()
        assert take(channel, queue, 4) == ["1", "3", "4", "5"]

    def test_a_requeued_message_is_marked_redelivered(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2")
        message = fetch(channel, queue)
        assert not message.redelivered
        message.requeue()
        again = fetch(channel, queue)
        assert (again.body, again.redelivered) == (b"1", True)
        assert again.delivery_tag > message.delivery_tag
        assert not fetch(channel, queue).redelivered

    def test_a_requeued_message_stays_with_its_queue(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        first, second = (declare_bound(channel, name(), exchange) for _ in range(2))
        publish(channel, exchange, "", "copied")
        fetch(channel, first).requeue()
        assert take(channel, first, 1) == ["copied"]
        assert take(channel, second, 1) == ["copied"]

    def test_a_requeued_message_needs_no_binding(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        declare_bound(channel, queue := name(), exchange, ["k"])
        publish(channel, exchange, "k", "kept")
        message = fetch(channel, queue)
        channel.queue_unbind(queue, exchange, "k")
        channel.exchange_delete(exchange)
        message.requeue()
        assert take(channel, queue, 1) == ["kept"]

    def test_a_consumer_gets_its_requeued_message_again(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 1)
        inbox.messages[0].requeue()
        drain_until(connection, lambda: len(inbox) == 2)
        assert [message.redelivered for message in inbox.messages] == [False, True]

    def test_an_unknown_tag_closes_the_channel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        fetch(channel, queue)
        with pytest.raises(PreconditionFailedError) as caught:
            channel.basic_ack(99)
        assert caught.value.code == 406
        assert not channel.is_open
        assert take(connection.channel(), queue, 1) == ["1"]

    @pytest.mark.parametrize("method", ["basic_ack", "basic_nack", "basic_reject"])
    def test_a_tag_settles_once(self, channel: Channel, name: Names, method: str) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        message = fetch(channel, queue)
        channel.basic_ack(message.delivery_tag)
        with pytest.raises(PreconditionFailedError):
            getattr(channel, method)(message.delivery_tag)
        assert not channel.is_open

    def test_a_tag_is_valid_on_its_channel_only(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(queue := name())
        publish(first, "", queue, "1")
        message = fetch(first, queue)
        with pytest.raises(PreconditionFailedError):
            second.basic_ack(message.delivery_tag)
        assert first.is_open
        message.requeue()
        assert take(first, queue, 1) == ["1"]

    def test_an_unacknowledging_get_gives_no_tag_to_settle(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        message = fetch(channel, queue, no_ack=True)
        with pytest.raises(MessageStateError):
            message.ack()
        with pytest.raises(PreconditionFailedError):
            channel.basic_ack(message.delivery_tag)

    @pytest.mark.parametrize("first", ["ack", "reject", "requeue"])
    @pytest.mark.parametrize("second", ["ack", "reject", "requeue"])
    def test_a_message_settles_once(
        self, channel: Channel, name: Names, first: str, second: str
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        message = fetch(channel, queue)
        getattr(message, first)()
        assert message.acknowledged
        with pytest.raises(MessageStateError):
            getattr(message, second)()
        assert channel.is_open

    def test_a_message_settles_from_any_thread(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, *map(str, range(10)))
        threads = [
            threading.Thread(target=message.ack) for message in fetch_many(channel, queue, 10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connection.release()
        assert take(other, queue, 0) == []

    @requires("recover")
    def test_recover_requeues_what_the_channel_holds(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        fetch_many(channel, queue, 2)[0].ack()
        channel.basic_recover(requeue=True)
        message = fetch(channel, queue)
        assert (message.body, message.redelivered) == (b"2", True)
        assert take(channel, queue, 1) == ["3"]
