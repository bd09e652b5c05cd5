"""The application's way: Exchange, Queue, Producer and Consumer over this transport."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_core import Connection, Exchange, Message, Queue
from kombu_core.batches import Batch, BatchConsumer
from kombu_core.exceptions import (
    BatchPublishError,
    ConnectionLostError,
    ConsumerCancelledError,
    ContentRefusedError,
    DecodeError,
    NotFoundError,
    OperationTimeoutError,
    UnroutableError,
)
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    DEADLINE,
    BrokerUnderTest,
    Names,
    drain_exactly,
    drain_quiet,
    drain_until,
    fetch,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel


class Received:
    """Callbacks of a consumer that keep what came."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.messages: list[Message] = []

    def __call__(self, body: Any, message: Message) -> None:
        self.bodies.append(body)
        self.messages.append(message)
        message.ack()


class ApplicationContract(ContractFixtures):
    """What an application does most; through `kombu_core.Connection`."""

    @pytest.fixture
    def application(self, broker: BrokerUnderTest, connect: Connect) -> Connection:
        """A connection as an application has it."""
        connection = connect()
        assert isinstance(connection, Connection)
        return connection

    @pytest.fixture
    def queue(self, name: Names) -> Queue:
        """A queue on an exchange of its own."""
        return Queue(name(), Exchange(name("x"), type="direct"), routing_key="k")

    def test_a_value_goes_from_producer_to_consumer(
        self, application: Connection, queue: Queue
    ) -> None:
        received = Received()
        value = {"text": "ünï", "numbers": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
        producer = application.Producer()
        producer.publish(value, exchange=queue.exchange, routing_key="k", declare=[queue])
        with application.Consumer([queue], callbacks=[received]):
            drain_until(application, lambda: received.bodies)
        assert received.bodies == [value]
        assert received.messages[0].content_type == "application/json"

    @pytest.mark.parametrize("value", ["text ☃", b"\x00bytes\xff", 7, None, [1, 2], {}])
    def test_values_keep_their_type(
        self, application: Connection, queue: Queue, value: object
    ) -> None:
        received = Received()
        with application.Consumer([queue], callbacks=[received]):
            application.Producer().publish(value, exchange=queue.exchange, routing_key="k")
            drain_until(application, lambda: received.bodies)
        assert received.bodies == [value]
        assert type(received.bodies[0]) is type(value)

    def test_a_compressed_value_arrives(self, application: Connection, queue: Queue) -> None:
        received = Received()
        with application.Consumer([queue], callbacks=[received]):
            application.Producer().publish(
                ["x" * 100] * 100, exchange=queue.exchange, routing_key="k", compression="zlib"
            )
            drain_until(application, lambda: received.bodies)
        assert received.bodies == [["x" * 100] * 100]
        assert len(received.messages[0].body) < 1000

    def test_every_callback_is_called(self, application: Connection, queue: Queue) -> None:
        first, second = list[Any](), Received()
        consumer = application.Consumer(
            [queue], callbacks=[lambda body, message: first.append(body)]
        )
        consumer.register_callback(second)
        with consumer:
            application.Producer().publish("1", exchange=queue.exchange, routing_key="k")
            drain_until(application, lambda: second.bodies)
        assert first == second.bodies == ["1"]

    def test_on_message_gets_what_is_not_decoded(
        self, application: Connection, queue: Queue
    ) -> None:
        messages: list[Message] = []
        with application.Consumer([queue], on_message=messages.append, no_ack=True):
            application.Producer().publish(
                b"{broken",
                content_type="application/json",
                exchange=queue.exchange,
                routing_key="k",
            )
            drain_until(application, lambda: messages)
        assert messages[0].body == b"{broken"

    def test_what_is_not_accepted_is_not_decoded(
        self, application: Connection, queue: Queue
    ) -> None:
        received, errors = Received(), list[Exception]()

        def refuse(message: Message, error: Exception) -> None:
            errors.append(error)
            message.reject()

        consumer = application.Consumer(
            [queue], callbacks=[received], accept=["json"], on_decode_error=refuse
        )
        with consumer:
            producer = application.Producer(exchange=queue.exchange, routing_key="k")
            producer.publish("secret", content_type="application/x-python-serialize")
            producer.publish(b"{broken", content_type="application/json")
            producer.publish({"fine": True})
            drain_until(application, lambda: received.bodies)
        assert received.bodies == [{"fine": True}]
        assert [type(error) for error in errors] == [ContentRefusedError, DecodeError]

    def test_a_decoding_error_without_a_handler_comes_out(
        self, application: Connection, queue: Queue
    ) -> None:
        received = Received()
        with application.Consumer([queue], callbacks=[received]) as consumer:
            producer = application.Producer(exchange=queue.exchange, routing_key="k")
            producer.publish(b"{broken", content_type="application/json")
            producer.publish("fine")
            with pytest.raises(DecodeError):
                drain_until(application, lambda: received.bodies)
            drain_until(application, lambda: received.bodies)
            assert consumer.channel.is_open
        assert received.bodies == ["fine"]

    def test_a_consumer_that_is_left_stops(self, application: Connection, queue: Queue) -> None:
        received = Received()
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        with application.Consumer([queue], callbacks=[received]) as consumer:
            producer.publish("1")
            drain_until(application, lambda: received.bodies)
        producer.publish("2")
        drain_quiet(application)
        assert received.bodies == ["1"]
        assert not consumer.consuming_from(queue)
        assert ready(application.default_channel, queue.name) == 1

    @requires("consumer_cancel_notify")
    def test_a_consumer_whose_queue_goes_says_so(
        self, application: Connection, other: Channel, queue: Queue
    ) -> None:
        received = Received()
        with application.Consumer([queue], callbacks=[received]) as consumer:
            other.queue_delete(queue.name)
            with pytest.raises(ConsumerCancelledError) as caught:
                drain_until(application, lambda: False)
            assert caught.value.queue == queue.name
            assert not consumer.consuming_from(queue)
            consumer.declare()
            consumer.consume()
            application.Producer().publish("again", exchange=queue.exchange, routing_key="k")
            drain_until(application, lambda: received.bodies)
        assert received.bodies == ["again"]

    @requires("consumer_cancel_notify")
    def test_a_recovering_consumer_whose_queue_goes_consumes_again(
        self, application: Connection, other: Channel, queue: Queue
    ) -> None:
        received = Received()
        with (
            application.clone(recovery=True) as recovering,
            recovering.Consumer([queue], callbacks=[received]),
        ):
            other.queue_delete(queue.name)

            def published() -> bool:
                try:
                    application.Producer().publish(
                        "again", exchange=queue.exchange, routing_key="k", mandatory=True
                    )
                except UnroutableError:
                    return False
                return True

            drain_until(recovering, published)
            drain_until(recovering, lambda: received.bodies)
        assert received.bodies == ["again"]

    @pytest.mark.parametrize("error", [ConnectionLostError("mine"), OperationTimeoutError("mine")])
    def test_errors_about_other_brokers_come_out_of_a_recovering_connection(
        self, application: Connection, queue: Queue, error: Exception
    ) -> None:
        handled: list[Message] = []

        def handle(message: Message) -> None:
            handled.append(message)
            raise error

        with (
            application.clone(recovery=True) as recovering,
            recovering.Consumer([queue], on_message=handle),
        ):
            application.Producer().publish("x", exchange=queue.exchange, routing_key="k")
            with pytest.raises(type(error), match="mine") as caught:
                drain_until(recovering, lambda: False)
            assert caught.value is error
            handled[0].ack()
            drain_quiet(recovering)

    def test_two_consumers_of_a_connection_get_their_own(
        self, application: Connection, name: Names
    ) -> None:
        queues = [Queue(name()), Queue(name())]
        received = [Received(), Received()]
        consumers = [
            application.Consumer([queue], callbacks=[its])
            for queue, its in zip(queues, received, strict=True)
        ]
        producer = application.Producer()
        with consumers[0], consumers[1]:
            for queue in queues:
                producer.publish(queue.name, routing_key=queue.name)
            drain_until(application, lambda: all(its.bodies for its in received))
        assert [its.bodies for its in received] == [[queue.name] for queue in queues]

    def test_prefetch_holds_for_an_applications_consumer(
        self, application: Connection, queue: Queue
    ) -> None:
        messages: list[Message] = []
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        with application.Consumer([queue], on_message=messages.append, prefetch_count=2):
            for number in range(5):
                producer.publish(number)
            drain_exactly(application, 2, messages)
            messages[0].ack()
            drain_exactly(application, 3, messages)

    def test_a_bound_queue_is_fetched_from(
        self, application: Connection, queue: Queue, channel: Channel
    ) -> None:
        bound = queue(application.default_channel)
        bound.declare()
        assert bound.get() is None
        assert queue.exchange is not None
        publish(channel, queue.exchange.name, "k", "by hand")
        message = fetch(application.default_channel, queue.name)
        message.requeue()
        found = bound.get()
        assert found is not None
        assert found.redelivered
        found.ack()
        assert bound.delete() == 0

    def test_a_batch_of_a_producer_arrives_in_order(
        self, application: Connection, queue: Queue
    ) -> None:
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        producer.maybe_declare(queue)
        with producer.batch():
            for number in range(25):
                producer.publish(str(number))
        assert take(application.default_channel, queue.name, 25) == [*map(str, range(25))]
        producer.publish_many(str(number) for number in range(25))
        assert take(application.default_channel, queue.name, 25) == [*map(str, range(25))]

    def test_a_batch_consumer_gets_many_at_once_and_settles_them_together(
        self, application: Connection, queue: Queue
    ) -> None:
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        producer.maybe_declare(queue)
        producer.publish_many(range(7))
        batches: list[list[int]] = []

        def take_in(batch: Batch) -> None:
            batches.append([message.payload for message in batch])
            batch.ack()

        with BatchConsumer(application, [queue], take_in, size=3, wait=0.2) as consumer:
            for _ in range(3):
                consumer.drain_events(timeout=DEADLINE)
        assert batches == [[0, 1, 2], [3, 4, 5], [6]]
        assert take(application.default_channel, queue.name, 0) == []

    @requires("mandatory")
    def test_a_batch_of_a_producer_names_what_failed(
        self, application: Connection, queue: Queue
    ) -> None:
        producer = application.Producer(exchange=queue.exchange)
        producer.maybe_declare(queue)
        with pytest.raises(BatchPublishError) as caught, producer.batch():
            for key in ("k", "nowhere", "k"):
                producer.publish(key, routing_key=key, mandatory=True)
        assert sorted(caught.value.failed) == [1]
        assert ready(application.default_channel, queue.name) == 2

    @requires("mandatory")
    def test_a_mandatory_publish_without_a_queue_fails(
        self, application: Connection, queue: Queue
    ) -> None:
        producer = application.Producer(exchange=queue.exchange, routing_key="nowhere")
        with pytest.raises(UnroutableError):
            producer.publish("lost", mandatory=True)

    def test_a_retrying_publish_does_not_retry_what_cannot_succeed(
        self, application: Connection, name: Names
    ) -> None:
        with pytest.raises(NotFoundError):
            application.Producer().publish(
                "lost", exchange=name("none"), retry=True, retry_policy={"max_retries": 2}
            )

    def test_a_released_connection_can_be_used_again(
        self, application: Connection, queue: Queue, channel: Channel
    ) -> None:
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        producer.publish("1", declare=[queue])
        application.release()
        assert not application.connected
        producer.publish("2")
        assert take(channel, queue.name, 2) == ["1", "2"]

    def test_a_clone_is_another_connection_to_the_same_broker(
        self, application: Connection, queue: Queue
    ) -> None:
        application.Producer().publish(
            "1", exchange=queue.exchange, routing_key="k", declare=[queue]
        )
        with application.clone() as clone:
            assert clone.transport is not application.transport
            assert take(clone.default_channel, queue.name, 1) == ["1"]

    @requires("delay")
    def test_a_producer_delays(self, application: Connection, queue: Queue) -> None:
        producer = application.Producer(exchange=queue.exchange, routing_key="k")
        producer.publish("later", delay=0.1, declare=[queue])
        assert ready(application.default_channel, queue.name) == 0
        assert fetch(application.default_channel, queue.name).payload == "later"
