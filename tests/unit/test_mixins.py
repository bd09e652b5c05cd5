"""Programs that consume until they are told to stop, and come back when the broker fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Message, Queue
from kombu_core.exceptions import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    OperationTimeoutError,
)
from kombu_core.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu_core.retry import Backoff
from kombu_core.transport import Channel


class Worker(ConsumerMixin):
    restart_backoff = Backoff(start=0.0, step=0.001, maximum=0.001)

    def __init__(self, connection: Connection, stop_after: int = 0) -> None:
        self.connection = connection
        self.stop_after = stop_after
        self.bodies: list[Any] = []
        self.happened: list[str] = []
        self.current: Connection | None = None

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        return [Consumer([Queue("work")], callbacks=[self.on_work], accept=["json", "text"])]

    def on_work(self, body: Any, message: Message) -> None:
        self.bodies.append(body)
        message.ack()
        self.should_stop = len(self.bodies) == self.stop_after

    def on_connection_revived(self) -> None:
        self.happened.append("revived")

    def on_consume_ready(
        self, connection: Connection, channel: Channel, consumers: list[Consumer], **kwargs: Any
    ) -> None:
        self.current = connection
        self.happened.append(f"ready {len(consumers)} {kwargs}")

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        super().on_consume_end(connection, channel)
        self.happened.append("end")

    @contextmanager
    def extra_context(self, connection: Connection, channel: Channel) -> Iterator[None]:
        self.happened.append("enter")
        yield
        self.happened.append("leave")


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        connection.connect()
        yield connection


def publish(connection: Connection, *bodies: Any, **options: Any) -> None:
    producer = connection.Producer(routing_key="work")
    for body in bodies:
        producer.publish(body, declare=[Queue("work")], **options)


def test_a_worker_works_until_it_is_told_to_stop(connection: Connection) -> None:
    publish(connection, "1", "2", "3")
    worker = Worker(connection, stop_after=2)
    worker.run(safety_interval=0.01, note="hello")
    assert worker.bodies == ["1", "2"]
    assert worker.happened == ["revived", "enter", "ready 1 {'note': 'hello'}", "leave", "end"]
    assert worker.current is not None
    assert not worker.current.connected


def test_consuming_has_a_limit_and_a_timeout(connection: Connection) -> None:
    publish(connection, "1", "2", "3")
    worker = Worker(connection)
    assert len([*worker.consume(limit=2, safety_interval=0.01)]) == 2
    with pytest.raises(OperationTimeoutError):
        worker.run(timeout=0.02, safety_interval=0.01)
    assert worker.bodies == ["1", "2", "3"]


def test_a_worker_comes_back_after_the_connection_was_lost(connection: Connection) -> None:
    class Unlucky(Worker):
        def on_iteration(self) -> None:
            if self.bodies == ["1"] and len(self.happened) == 3:
                publish(self.connection, "2")
                assert self.current is not None
                self.current.transport.close()
                raise ConnectionLostError("gone")

    publish(connection, "1")
    worker = Unlucky(connection, stop_after=2)
    worker.run(safety_interval=0.01)
    assert worker.bodies == ["1", "2"]
    assert worker.happened.count("revived") == worker.happened.count("end") == 2


def test_a_worker_waits_for_a_broker_that_is_away(connection: Connection) -> None:
    attempts: list[float] = []

    class Away(Connection):
        def connect(self) -> Any:
            if len(attempts) < 3:
                raise ConnectError("nobody there")
            return super().connect()

    class Patient(Worker):
        def create_connection(self) -> Connection:
            return Away(connection.as_uri())

        def on_connection_error(self, exc: BaseException, interval: float) -> None:
            attempts.append(interval)

    publish(connection, "1")
    worker = Patient(connection, stop_after=1)
    worker.run(safety_interval=0.01)
    assert worker.bodies == ["1"]
    assert len(attempts) == 3


@pytest.mark.parametrize(("error", "count"), [(ConnectError, 2), (AuthenticationError, 0)])
def test_attempts_to_connect_have_an_end(
    connection: Connection, error: type[Exception], count: int
) -> None:
    class Refused(Connection):
        def connect(self) -> Any:
            raise error("no")

    class Impatient(Worker):
        connect_max_retries = 2

        def create_connection(self) -> Connection:
            return Refused(connection.as_uri())

        def on_connection_error(self, exc: BaseException, interval: float) -> None:
            self.happened.append("error")

    worker = Impatient(connection)
    with pytest.raises(error):
        worker.run()
    assert worker.happened == ["error"] * count


def test_a_waiting_worker_can_be_stopped(connection: Connection) -> None:
    class Dead(Connection):
        def connect(self) -> Any:
            raise ConnectError("no")

    waiting = threading.Event()

    class Waiting(Worker):
        restart_backoff = Backoff(start=60, maximum=60)

        def create_connection(self) -> Connection:
            return Dead(connection.as_uri())

        def on_connection_error(self, exc: BaseException, interval: float) -> None:
            waiting.set()

    worker = Waiting(connection)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert waiting.wait(10)
    worker.should_stop = True
    thread.join(10)
    assert not thread.is_alive()


def test_an_error_of_the_application_comes_out(connection: Connection) -> None:
    class Buggy(Worker):
        def on_work(self, body: Any, message: Message) -> None:
            raise TimeoutError("the application's own")

    publish(connection, "1")
    with pytest.raises(TimeoutError, match="own"):
        Buggy(connection).run()


def test_what_cannot_be_decoded_is_rejected(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    publish(connection, b"{broken", content_type="application/json")
    publish(connection, "fine")
    worker = Worker(connection, stop_after=1)
    with caplog.at_level(logging.ERROR):
        worker.run(safety_interval=0.01)
    assert worker.bodies == ["fine"]
    assert "decoded" in caplog.text
    assert Queue("work")(connection).get() is None


def test_a_worker_publishes_through_a_second_connection(connection: Connection) -> None:
    class Answering(ConsumerProducerMixin, Worker):
        def on_work(self, body: Any, message: Message) -> None:
            assert self.producer is self.producer
            self.second = self.producer_connection
            assert self.second is not self.current
            self.producer.publish(f"re: {body}", routing_key="answers")
            super().on_work(body, message)

    answers = Queue("answers")(connection)
    answers.declare()
    publish(connection, "1")
    worker = Answering(connection, stop_after=1)
    worker.run(safety_interval=0.01)
    message = answers.get()
    assert message is not None
    assert message.payload == "re: 1"
    assert not worker.second.connected


def test_consumers_have_to_be_defined(connection: Connection) -> None:
    class Nothing(ConsumerMixin):
        def __init__(self) -> None:
            self.connection = connection

    with pytest.raises(NotImplementedError, match="Nothing"):
        Nothing().run()
