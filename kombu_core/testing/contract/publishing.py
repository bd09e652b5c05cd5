"""Publishing: confirms, mandatory messages that come back, and batches."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import (
    BatchPublishError,
    NotFoundError,
    PreconditionFailedError,
    PublishRejectedError,
    UnroutableError,
)
from kombu_core.message import Envelope
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    Names,
    declare_bound,
    envelope,
    fetch,
    fetch_many,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel, Publication


class PublishingContract(ContractFixtures):
    """basic.publish: when it returns, the broker has the message, or says why not."""

    def test_a_publish_returns_when_the_message_is_stored(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        for number in range(20):
            publish(channel, "", queue, str(number))
            assert ready(other, queue) == number + 1

    def test_confirms_may_be_asked_for(self, channel: Channel, name: Names) -> None:
        channel.confirm_select()
        channel.confirm_select()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        assert take(channel, queue, 1) == ["1"]

    def test_what_nobody_wants_is_dropped(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        publish(channel, exchange, "k", "nobody's")
        assert channel.is_open

    # -- mandatory -------------------------------------------------------------------------

    @requires("mandatory")
    @pytest.mark.parametrize("default", [False, True])
    def test_a_mandatory_message_without_a_queue_comes_back(
        self, channel: Channel, name: Names, default: bool
    ) -> None:
        exchange = "" if default else name("x")
        if exchange:
            channel.exchange_declare(exchange, "direct")
        message = envelope(exchange, name("nowhere"), "back", {"h": 1}, message_id="m")
        with pytest.raises(UnroutableError) as caught:
            channel.basic_publish(message, mandatory=True)
        assert caught.value.code == 312
        assert caught.value.envelope == message
        assert channel.is_open

    @requires("mandatory")
    def test_a_mandatory_message_with_a_queue_is_stored(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        declare_bound(channel, queue := name(), exchange, ["k"])
        channel.basic_publish(envelope(exchange, "k", "stored"), mandatory=True)
        assert take(channel, queue, 1) == ["stored"]

    @requires("mandatory")
    def test_a_callback_takes_what_comes_back(self, channel: Channel, name: Names) -> None:
        returned: list[tuple[Envelope, int, str]] = []
        channel.set_return_callback(lambda *what: returned.append(what))
        message = envelope("", name("nowhere"), "back")
        channel.basic_publish(message, mandatory=True)
        assert returned == [(message, 312, "NO_ROUTE")]
        channel.set_return_callback(None)
        with pytest.raises(UnroutableError):
            channel.basic_publish(message, mandatory=True)

    # -- batches ---------------------------------------------------------------------------

    def test_a_batch_is_stored_in_order(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        bodies = [str(number) for number in range(100)]
        channel.basic_publish_batch([Publication(envelope("", queue, body)) for body in bodies])
        assert take(channel, queue, 100) == bodies

    def test_a_batch_goes_to_many_queues(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "topic")
        queues = {key: declare_bound(channel, name(), exchange, [key]) for key in ("a.*", "#")}
        publications = [Publication(envelope(exchange, key, key)) for key in ("a.b", "b", "a.c")]
        channel.basic_publish_batch(publications)
        assert take(channel, queues["a.*"], 2) == ["a.b", "a.c"]
        assert take(channel, queues["#"], 3) == ["a.b", "b", "a.c"]

    def test_an_empty_batch_is_no_error(self, channel: Channel) -> None:
        channel.basic_publish_batch([])
        assert channel.is_open

    @requires("mandatory")
    def test_a_batch_names_what_came_back(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        nowhere = name("nowhere")
        publications = [
            Publication(envelope("", where, str(number)), mandatory=True)
            for number, where in enumerate([queue, nowhere, queue, nowhere, queue])
        ]
        with pytest.raises(BatchPublishError) as caught:
            channel.basic_publish_batch(publications)
        assert sorted(caught.value.failed) == [1, 3]
        assert all(isinstance(why, UnroutableError) for why in caught.value.failed.values())
        assert caught.value.size == 5
        assert take(channel, queue, 3) == ["0", "2", "4"]

    @requires("max_length")
    def test_a_batch_names_what_was_refused(self, channel: Channel, name: Names) -> None:
        arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
        channel.queue_declare(full := name(), arguments=arguments)
        channel.queue_declare(free := name())
        publications = [
            Publication(envelope("", queue, str(number)))
            for number, queue in enumerate([full, free, full, full, free])
        ]
        with pytest.raises(BatchPublishError) as caught:
            channel.basic_publish_batch(publications)
        assert sorted(caught.value.failed) == [3]
        assert isinstance(caught.value.failed[3], PublishRejectedError)
        assert take(channel, full, 2) == ["0", "2"]
        assert take(channel, free, 2) == ["1", "4"]

    def test_a_batch_to_no_exchange_is_not_found(self, channel: Channel, name: Names) -> None:
        with pytest.raises((NotFoundError, BatchPublishError)) as caught:
            channel.basic_publish_batch([Publication(envelope(name("none"), "k", "1"))])
        if isinstance(caught.value, BatchPublishError):
            assert isinstance(caught.value.failed[0], NotFoundError)

    def test_a_batch_ends_where_the_channel_is_closed(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        targets = [("", queue), (name("none"), queue), ("", queue)]
        with pytest.raises((NotFoundError, BatchPublishError)):
            channel.basic_publish_batch(
                [Publication(envelope(*target, str(n))) for n, target in enumerate(targets)]
            )
        assert not channel.is_open
        assert take(other, queue, 1) == ["0"]


class TransactionContract(ContractFixtures):
    """tx.select, tx.commit and tx.rollback."""

    @requires("transactions")
    def test_what_is_published_waits_for_the_commit(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.tx_select()
        publish(channel, "", queue, "1", "2")
        assert ready(other, queue) == 0
        channel.tx_commit()
        assert take(other, queue, 2) == ["1", "2"]
        publish(channel, "", queue, "3")
        assert ready(other, queue) == 0
        channel.tx_commit()
        assert take(other, queue, 1) == ["3"]

    @requires("transactions")
    def test_a_rollback_forgets_what_was_published(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.tx_select()
        publish(channel, "", queue, "1")
        channel.tx_rollback()
        publish(channel, "", queue, "2")
        channel.tx_commit()
        assert take(other, queue, 1) == ["2"]

    @requires("transactions")
    def test_acknowledgements_wait_for_the_commit(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(other, "", queue, "1", "2")
        channel.tx_select()
        first, second = fetch_many(channel, queue, 2)
        first.ack()
        channel.tx_commit()
        second.ack()
        channel.close()
        assert take(other, queue, 1) == ["2"]

    @requires("transactions")
    def test_a_rollback_forgets_acknowledgements(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(other, "", queue, "1")
        channel.tx_select()
        message = fetch(channel, queue)
        channel.basic_ack(message.delivery_tag)
        channel.tx_rollback()
        channel.basic_ack(message.delivery_tag)
        channel.tx_commit()
        channel.close()
        assert take(other, queue, 0) == []

    @requires("transactions")
    def test_what_waits_for_the_commit_was_routed_when_it_was_published(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        other.exchange_declare(exchange := name("x"), "direct")
        before, after = declare_bound(other, name(), exchange, ["k"]), name()
        channel.tx_select()
        publish(channel, exchange, "k", "1")
        assert ready(other, before) == 0
        declare_bound(other, after, exchange, ["k"])
        other.queue_unbind(before, exchange, "k")
        other.exchange_delete(exchange)
        publish(channel, "", later := name(), "2")
        assert ready(other, before) == 0
        other.queue_declare(later)
        channel.tx_commit()
        assert take(other, before, 1) == ["1"]
        assert take(other, after, 0) == []
        assert take(other, later, 1) == ["2"]

    @requires("transactions")
    def test_a_channel_that_has_confirms_takes_no_transactions(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        with pytest.raises(PreconditionFailedError):
            channel.tx_select()
        assert not channel.is_open
        assert take(other, queue, 1) == ["1"]

    @requires("transactions", "max_length")
    def test_a_commit_of_which_a_part_is_refused_says_so(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        other.queue_declare(full := name(), arguments=arguments)
        other.queue_declare(free := name())
        channel.tx_select()
        publish(channel, "", full, "1", "2")
        publish(channel, "", free, "3")
        with pytest.raises(PreconditionFailedError):
            channel.tx_commit()
        assert not channel.is_open
        assert take(other, full, 1) == ["1"]
        assert take(other, free, 1) == ["3"]

    @requires("transactions")
    def test_selecting_again_forgets_nothing(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(other, "", queue, "1")
        channel.tx_select()
        message = fetch(channel, queue)
        channel.basic_ack(message.delivery_tag)
        publish(channel, "", queue, "2")
        channel.tx_select()
        channel.tx_rollback()
        channel.basic_ack(message.delivery_tag)
        channel.tx_commit()
        assert take(other, queue, 0) == []

    @requires("transactions")
    def test_closing_the_channel_forgets_what_was_not_committed(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.tx_select()
        publish(channel, "", queue, "1")
        channel.close()
        assert take(other, queue, 0) == []
