"""Publishing and settling in the application's own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from kombu_core import Connection, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    LeaseLostError,
    MessageStateError,
    OperationalError,
)
from kombu_core.message import Message
from kombu_core.testing.harness import until
from kombu_core.url import parse
from kombu_sqlalchemy import joined
from kombu_sqlalchemy.engines import split_url

#: Begins a transaction on an engine: as a connection or as a session, both commit at the end.
Begin = Callable[[], Any]


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The application's own way to the database, with a table of its own."""
    found = create_engine(split_url(parse(url, opaque=True))[0])
    with found.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
        connection.execute(text("CREATE TABLE orders (number INT)"))
    yield found
    found.dispose()


@pytest.fixture(params=["connection", "session"])
def begin(request: pytest.FixtureRequest, engine: Engine) -> Begin:
    if request.param == "connection":
        return engine.begin
    return sessionmaker(engine).begin


@pytest.fixture
def connection(url: str, options: dict[str, Any]) -> Iterator[Connection]:
    with Connection(url, transport_options={**options, "lease": 60, "lock_timeout": 3}) as found:
        Queue("q")(found).declare()
        yield found


def order(within: Any, number: int) -> None:
    within.execute(text("INSERT INTO orders VALUES (:number)"), {"number": number})


def orders(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT number FROM orders ORDER BY number")).scalars())


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_one_publish_names_its_transaction(
    connection: Connection, engine: Engine, begin: Begin, ends: str
) -> None:
    producer = connection.Producer(routing_key="q")

    def place_order() -> None:
        with begin() as within:
            order(within, 1)
            if isinstance(within, sqlalchemy.Connection):
                producer.publish("a", connection=within)
            else:
                producer.publish("a", session=within)
            if ends == "rollback":
                raise ZeroDivisionError

    if ends == "commit":
        place_order()
    else:
        with pytest.raises(ZeroDivisionError):
            place_order()
    found = Queue("q")(connection).get()
    assert (found is not None, orders(engine)) == ((True, [1]) if ends == "commit" else (False, []))


def test_what_is_no_transaction_is_named(connection: Connection, begin: Begin) -> None:
    producer = connection.Producer(routing_key="q")
    with pytest.raises(ConfigurationError, match="str is no Session and no Connection"):
        producer.publish("a", session="no session")
    with begin() as within:
        with pytest.raises(ConfigurationError, match="give one"):
            producer.publish("a", session=within, connection=within)
        with pytest.raises(ConfigurationError, match="retry the transaction"):
            producer.publish("a", session=within, retry=True)
        with producer.batch(), pytest.raises(ConfigurationError, match="before the batch"):
            producer.publish("a", session=within)
    assert Queue("q")(connection).get() is None


def ready(connection: Connection) -> int:
    return int(Queue("q")(connection).queue_declare(passive=True).message_count)


def get(connection: Connection) -> Message:
    message = until(lambda: Queue("q")(connection).get(), "a message")
    assert message is not None
    return message


class _Mistake(Exception):
    pass


class TestPublish:
    def test_both_or_none(self, connection: Connection, begin: Begin, engine: Engine) -> None:
        producer = connection.Producer(routing_key="q")
        with begin() as mine, joined(connection, mine):
            order(mine, 1)
            producer.publish({"order": 1})
            assert ready(connection) == 0
        assert (orders(engine), ready(connection)) == ([1], 1)
        with pytest.raises(_Mistake), begin() as mine, joined(connection, mine):
            producer.publish({"order": 2})
            order(mine, 2)
            raise _Mistake
        assert (orders(engine), ready(connection)) == ([1], 1)
        assert get(connection).payload == {"order": 1}

    def test_a_savepoint_takes_its_messages_back(
        self, connection: Connection, engine: Engine
    ) -> None:
        producer = connection.Producer(routing_key="q")
        with Session(engine) as session, session.begin(), joined(connection, session):
            with pytest.raises(_Mistake), session.begin_nested():
                producer.publish("undone")
                raise _Mistake
            with session.begin_nested():
                producer.publish("done")
        message = get(connection)
        assert (message.payload, ready(connection)) == ("done", 0)
        with (
            Session(engine) as session,
            session.begin(),
            joined(connection, session),
            pytest.raises(_Mistake),
            session.begin_nested(),
        ):
            message.ack()
            raise _Mistake
        assert get(connection).payload == "done"

    def test_one_block_for_several_transactions_of_a_session(
        self, connection: Connection, engine: Engine
    ) -> None:
        producer = connection.Producer(routing_key="q")
        with Session(engine) as session, joined(connection, session):
            for end in (session.commit, session.rollback, session.commit):
                producer.publish(end.__name__)
                end()
        assert ready(connection) == 2

    def test_a_transaction_of_another_database_is_refused(
        self, connection: Connection, tmp_path: Path
    ) -> None:
        with Connection(f"sqlalchemy+sqlite:///{tmp_path}/a.db") as one:
            Queue("q")(one).declare()
            with Connection(f"sqlalchemy+sqlite:///{tmp_path}/b.db") as other:
                Queue("q")(other).declare()
            engine = create_engine(f"sqlite:///{tmp_path}/b.db")
            with (
                engine.begin() as mine,
                joined(one, mine),
                pytest.raises(ConfigurationError, match="another database"),
            ):
                one.Producer(routing_key="q").publish("a")
            engine.dispose()

    def test_a_commit_wakes_who_waits(
        self, connection: Connection, begin: Begin, url: str, options: dict[str, Any]
    ) -> None:
        came: list[Message] = []
        with Connection(url, transport_options=options) as other:  # noqa: SIM117
            with other.Consumer([Queue("q")], on_message=came.append, no_ack=True):
                with pytest.raises(TimeoutError):
                    other.drain_events(timeout=0.1)
                with begin() as mine, joined(connection, mine):
                    connection.Producer().publish("x", "q")
                other.drain_events(timeout=5)
        assert len(came) == 1

    def test_a_batch_and_a_delay(self, connection: Connection, begin: Begin) -> None:
        producer = connection.Producer(routing_key="q")
        with begin() as mine, joined(connection, mine), producer.batch():
            for number in range(50):
                producer.publish(number)
        with begin() as mine, joined(connection, mine):
            producer.publish("later", delay=0.02)
        assert until(lambda: ready(connection) == 51, "all")

    def test_afterwards_it_is_as_before(self, connection: Connection, begin: Begin) -> None:
        producer = connection.Producer(routing_key="q")
        with begin() as mine:
            with joined(connection, mine):
                producer.publish("joined")
            mine.rollback()
        producer.publish("alone")
        assert get(connection).payload == "alone"

    def test_the_topology_of_another_moment_is_noticed(
        self, connection: Connection, begin: Begin, url: str, options: dict[str, Any]
    ) -> None:
        producer = connection.Producer(routing_key="q")
        producer.publish("x")
        with Connection(url, transport_options=options) as other:
            Queue("q")(other).delete()
            Queue("q", max_length=1)(other).declare()
        with begin() as mine, joined(connection, mine):
            producer.publish("a")
            producer.publish("b")
        assert ready(connection) == 1

    def test_another_broker_is_refused(self, begin: Begin) -> None:
        refused = pytest.raises(ConfigurationError, match="kombu-sqlalchemy")
        with Connection("memory://") as memory, begin() as mine, refused, joined(memory, mine):
            raise AssertionError

    def test_another_database_is_refused(self, connection: Connection, backend: str) -> None:
        if backend == "sqlite":
            pytest.skip("the other one is SQLite")
        refused = pytest.raises(ConfigurationError, match="sqlite")
        engine = create_engine("sqlite://")
        with engine.connect() as other, refused, joined(connection, other):
            raise AssertionError
        engine.dispose()


class TestSettle:
    def test_effect_and_ack_are_one(
        self, connection: Connection, begin: Begin, engine: Engine
    ) -> None:
        connection.Producer().publish(7, "q")
        message = get(connection)
        with pytest.raises(_Mistake), begin() as mine, joined(connection, mine):
            order(mine, message.payload)
            message.ack()
            raise _Mistake
        assert orders(engine) == []
        again = get(connection)
        assert (again.payload, again.redelivered) == (7, True)
        with begin() as mine, joined(connection, mine):
            order(mine, again.payload)
            again.ack()
        assert orders(engine) == [7]
        connection.release()
        assert ready(connection) == 0
        with pytest.raises(MessageStateError):
            again.ack()

    def test_an_ack_in_a_rolled_back_savepoint(
        self, connection: Connection, engine: Engine, backend: str
    ) -> None:
        if backend == "sqlite":
            pytest.skip("its driver needs to be told to do savepoints")
        connection.Producer().publish(1, "q")
        message = get(connection)
        with engine.begin() as mine:
            nested = mine.begin_nested()
            with joined(connection, mine):
                message.ack()
            nested.rollback()
            order(mine, 1)
        assert get(connection).redelivered

    def test_a_requeue_that_is_undone(self, connection: Connection, begin: Begin) -> None:
        connection.Producer().publish(1, "q")
        message = get(connection)
        with begin() as mine:
            with joined(connection, mine):
                message.requeue()
            mine.rollback()
        assert get(connection).redelivered

    def test_a_requeue_that_is_done_is_not_done_twice(
        self, connection: Connection, begin: Begin
    ) -> None:
        connection.Producer().publish(1, "q")
        message = get(connection)
        with begin() as mine, joined(connection, mine):
            message.requeue()
        message = get(connection)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
        assert ready(connection) == 0
        message.ack()

    def test_a_message_that_is_somebody_elses_ends_the_transaction(
        self, connection: Connection, begin: Begin, engine: Engine
    ) -> None:
        connection.Producer().publish(1, "q")
        message = get(connection)
        transport: Any = connection.transport
        transport.store.end(transport.parts.session.id)
        with pytest.raises(LeaseLostError), begin() as mine, joined(connection, mine):
            order(mine, 1)
            message.ack()
        assert orders(engine) == []

    def test_consume_and_publish_and_write(
        self, connection: Connection, begin: Begin, engine: Engine
    ) -> None:
        """From one queue to another by way of a table, failing every other time."""
        Queue("out")(connection).declare()
        producer = connection.Producer()
        producer.publish_many(range(10), "q")
        handled = 0
        while handled < 10:
            message = get(connection)
            try:
                with begin() as mine, joined(connection, mine):
                    order(mine, message.payload)
                    producer.publish(message.payload, "out")
                    message.ack()
                    if not message.redelivered:
                        raise _Mistake
            except _Mistake:
                continue
            handled += 1
        assert orders(engine) == list(range(10))
        assert Queue("out")(connection).queue_declare(passive=True).message_count == 10
        assert ready(connection) == 0


def test_sqlite_refuses_to_wait_for_itself(
    connection: Connection, engine: Engine, backend: str
) -> None:
    if backend != "sqlite":
        pytest.skip("others let many write")
    with engine.begin() as mine, joined(connection, mine):
        Queue("before")(connection).declare()
        order(mine, 1)
        with pytest.raises(OperationalError, match="before"):
            Queue("new")(connection).declare()
        connection.Producer().publish("x", "q")
    assert ready(connection) == 1
