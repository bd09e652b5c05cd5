"""Remote procedure calls: results, errors, many at once, late replies, and nobody there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kombu_core import Connection, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    EncodeError,
    OperationTimeoutError,
    TransportNotFoundError,
)
from kombu_core.rpc import RPCClient, RPCError, RPCServer


class Running:
    """A server in a thread."""

    def __init__(self, server: RPCServer) -> None:
        self.server = server
        self.thread = threading.Thread(
            target=server.run, kwargs={"safety_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        connection.connect()
        yield connection


class Gate:
    """Where a call stays until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def hold(self) -> str:
        self.entered.set()
        self.opened.wait(10)
        return "let go"


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def server(connection: Connection, gate: Gate) -> Iterator[RPCServer]:
    server = RPCServer(connection, "calls")

    @server.procedure
    def add(a: int, b: int = 1) -> int:
        return a + b

    @server.procedure
    def fail(text: str) -> None:
        raise ValueError(text)

    @server.procedure(name="strange")
    def make_something_strange() -> object:
        return object()

    server.procedure(gate.hold)
    running = Running(server)
    yield server
    gate.opened.set()
    running.stop()


@pytest.fixture
def client(connection: Connection) -> Iterator[RPCClient]:
    with RPCClient(connection, "calls", timeout=10) as client:
        yield client


def test_a_result_comes_back(server: RPCServer, client: RPCClient) -> None:
    assert client.call("add", 1, 2) == 3
    assert client.call("add", a=1) == 2
    assert client.submit("add", [5], {"b": 5}).result(10) == 10


def test_an_error_comes_back_as_data(server: RPCServer, client: RPCClient) -> None:
    with pytest.raises(RPCError) as caught:
        client.call("fail", "the reason")
    assert (caught.value.type, caught.value.text) == ("ValueError", "the reason")
    with pytest.raises(RPCError, match=r"LookupError.*nothing"):
        client.call("nothing")
    with pytest.raises(RPCError, match="TypeError"):
        client.call("add", 1, 2, 3)
    with pytest.raises(RPCError, match="EncodeError"):
        client.call("strange")
    assert client.call("add", 1) == 2, "the server goes on"


def test_a_call_that_cannot_be_sent_is_no_call(server: RPCServer, client: RPCClient) -> None:
    with pytest.raises(EncodeError):
        client.call("add", object())
    assert "0 calls" in repr(client)


def test_threads_call_at_the_same_time(server: RPCServer, client: RPCClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: client.call("add", n, n), range(64)))
    assert results == [2 * n for n in range(64)]
    futures = [client.submit("add", [n]) for n in range(20)]
    assert [future.result(10) for future in futures] == [n + 1 for n in range(20)]


def test_nobody_there_is_a_timeout(connection: Connection) -> None:
    with RPCClient(connection, "nobody") as client:
        with pytest.raises(OperationTimeoutError, match=r"'add' within 0\.05 s"):
            client.call("add", 1, timeout=0.05)
        future = client.submit("add", [1], timeout=0.05)
        with pytest.raises(OperationTimeoutError):
            future.result(10)


def test_a_server_does_not_work_on_what_is_out_of_time(connection: Connection) -> None:
    calls: list[int] = []
    with RPCClient(connection, "calls") as client:
        with pytest.raises(OperationTimeoutError):
            client.call("note", 1, timeout=0.05)
        server = RPCServer(connection, "calls")
        server.procedure(name="note")(calls.append)
        running = Running(server)
        client.call("note", 2, timeout=10)
        running.stop()
    assert calls == [2]


def test_a_late_reply_is_dropped_and_counted(
    server: RPCServer, client: RPCClient, gate: Gate
) -> None:
    future = client.submit("hold")
    assert gate.entered.wait(10)
    future.cancel()
    gate.opened.set()
    assert client.call("add", 1) == 2
    assert client.late_replies == 1


def test_a_cast_wants_no_answer(server: RPCServer, client: RPCClient) -> None:
    done: list[Any] = []
    server.procedure(name="note")(done.append)
    client.cast("note", "it")
    assert client.call("add", 1) == 2
    assert done == ["it"]
    assert client.late_replies == 0


def test_a_lost_connection_ends_the_calls_and_the_next_one_works(
    connection: Connection, server: RPCServer, gate: Gate
) -> None:
    made: list[Connection] = []

    class Source(Connection):
        def clone(self, **changes: Any) -> Connection:
            made.append(super().clone(**changes))
            return made[-1]

    with RPCClient(Source(connection.as_uri()), "calls", timeout=10) as client:
        assert client.call("add", 1) == 2
        future = client.submit("hold")
        made[-1].transport.close()
        with pytest.raises(ConnectionLostError):
            future.result(10)
        gate.opened.set()
        assert client.call("add", 1) == 2
        assert len(made) == 2


def test_a_closed_client_ends_its_calls_and_can_be_used_again(
    connection: Connection, server: RPCServer, gate: Gate
) -> None:
    client = RPCClient(connection, "calls", timeout=10)
    client.close()
    future = client.submit("hold")
    client.close()
    with pytest.raises(ConnectionLostError):
        future.result(10)
    gate.opened.set()
    assert client.call("add", 1) == 2
    client.close()


def test_a_client_that_cannot_connect_says_so_in_time() -> None:
    class Dead(Connection):
        def connect(self) -> Any:
            raise ConnectError("nobody there")

        def clone(self, **changes: Any) -> Connection:
            return Dead("memory://")

    with RPCClient(Dead("memory://"), "calls") as client:
        with pytest.raises(OperationTimeoutError) as caught:
            client.call("add", 1, timeout=0.05)
        assert isinstance(caught.value.__cause__, ConnectError)
    with (
        RPCClient(Connection("nonsense://"), "calls") as client,
        pytest.raises(TransportNotFoundError),
    ):
        client.call("add", 1, timeout=10)


def test_strangers_get_an_error_and_do_not_stop_the_server(
    connection: Connection, server: RPCServer, client: RPCClient
) -> None:
    client.call("add", 1)
    replies = Queue("replies")(connection)
    replies.declare()
    producer = connection.Producer(routing_key="calls")
    strange: list[Any] = ["text", {"args": 1}, {"args": [], "kwargs": []}]
    for body in strange:
        producer.publish(body, reply_to="replies", type="add", serializer="json")
    producer.publish(b"{", content_type="application/json")
    assert client.call("add", 1) == 2
    answers = [replies.get(no_ack=True) for _ in range(3)]
    assert {answer.payload["error"]["type"] for answer in answers if answer} == {"DecodeError"}


def test_a_procedure_is_not_replaced_silently(connection: Connection) -> None:
    server = RPCServer(connection, Queue("calls"))
    server.procedure(len)
    with pytest.raises(ConfigurationError, match="len"):
        server.procedure(name="len")(sum)
