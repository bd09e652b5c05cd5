"""Connections: URLs, failover, and what they show of themselves."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kombu_core import BrokerConnection, Connection, Exchange, Queue
from kombu_core.exceptions import (
    AuthenticationError,
    ChannelError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ConsumerCancelledError,
    NotFoundError,
    OperationTimeoutError,
)
from kombu_core.retry import Backoff
from tests.unit.faulty import Faults, FaultyTransport

SECRET = "s3cr3t"


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def current(faults: Faults) -> FaultyTransport:
    return faults.transports[-1]


# -- URLs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "uri"),
    [
        (("redis://h:1/2",), {}, "redis://h:1/2"),
        (("amqp://a;redis://b",), {}, "amqp://a"),
        ((["amqp://a", "redis://b"],), {}, "amqp://a"),
        (("",), {}, "amqp://localhost"),
        (("h", "u", "p", "v", 7), {}, "amqp://u:p@h:7/v"),
        (("h",), {"transport": "redis"}, "redis://h"),
        ((), {"transport": "redis"}, "redis://"),
        (("", "u", "p", "3", 7), {"transport": "redis"}, "redis://u:p@:7/3"),
        (("sqlalchemy+sqlite:///x.db",), {}, "sqlalchemy+sqlite:///x.db"),
    ],
)
def test_a_connection_is_made_of_a_url_or_of_its_parts(
    arguments: tuple[Any, ...], options: dict[str, Any], uri: str
) -> None:
    assert Connection(*arguments, **options).as_uri(include_password=True) == uri


@pytest.mark.parametrize(
    "options", [{"userid": "u"}, {"password": SECRET}, {"virtual_host": "v"}, {"port": 1}]
)
def test_parts_beside_a_url_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="belong into the URL") as caught:
        Connection("redis://h", **options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("urls", ["no url://", [], "redis://h:port"])
def test_what_is_no_url_is_refused_at_once(urls: Any) -> None:
    with pytest.raises(ConfigurationError):
        Connection(urls)


def test_nothing_shows_a_password() -> None:
    urls = [f"amqp://u:{SECRET}@a/v?password={SECRET}", f"sqla+pg://u:{SECRET}@b/d"]
    connection = Connection(urls, transport_options={"password": SECRET}, ssl=True)
    shown = f"{connection!r} {connection.info()} {connection.as_uri()} {connection.url!r}"
    assert SECRET not in shown
    assert connection.as_uri(include_password=True) == f"amqp://u:{SECRET}@a/v?password={SECRET}"


def test_info_tells_what_a_connection_is_made_of() -> None:
    connection = Connection("redis://u@h:1/2;redis://other", heartbeat=3.0, connect_timeout=2.0)
    assert connection.info() == {
        "hostname": "h",
        "userid": "u",
        "virtual_host": "2",
        "port": 1,
        "transport": "redis",
        "connect_timeout": 2.0,
        "heartbeat": 3.0,
        "ssl": False,
        "transport_options": [],
        "uri": "redis://u@h:1/2",
        "alternates": ["redis://other"],
    }
    assert (connection.hostname, connection.port, connection.userid) == ("h", 1, "u")
    assert (connection.virtual_host, connection.host) == ("2", "h:1")
    assert (Connection("redis://h").host, Connection("redis://").host) == ("h", "")


def test_a_clone_is_an_equal_connection_of_its_own(faults: Faults) -> None:
    options = {"connect_timeout": 7.0, "heartbeat": 1.0, "transport_options": {"lease": 9.0}}
    with faults.open(alternates=["memory://other"], recovery=True, **options) as connection:
        connection.connect()
        with connection.clone() as other:
            assert not other.connected
            assert other.info() == connection.info()
            assert other.transport is not connection.transport
            assert current(faults).given == faults.transports[0].given
    assert connection.clone(heartbeat=2.0).heartbeat == 2.0
    assert connection.clone(hostname="redis://h").as_uri() == "redis://h"
    more = connection.clone(alternates=["redis://h"]).info()["alternates"]
    assert more == ["memory://other", "redis://h"]


# -- connecting ------------------------------------------------------------------------------


def test_nothing_is_connected_before_it_is_needed(faults: Faults) -> None:
    with faults.open() as connection:
        assert not connection.connected
        assert faults.transports == []
        assert repr(connection) == "<Connection: faulty:// closed>"
        assert connection.channel().is_open
        assert repr(connection) == "<Connection: faulty:// connected>"
        assert connection.transport is connection.connect() is current(faults)
    assert not connection.connected
    connection.release()


def test_a_transport_gets_what_the_connection_was_given(faults: Faults) -> None:
    context: Any = object()
    options: dict[str, Any] = {"connect_timeout": 2.5, "heartbeat": 4.0, "ssl": context}
    with faults.open(transport_options={"lease": 5.0}, **options) as connection:
        connection.connect()
    given = current(faults).given
    assert (given.connect_timeout, given.heartbeat, given.ssl) == (2.5, 4.0, context)
    assert given.options == {"lease": 5.0}
    assert given.plugins is faults.plugins
    assert given.url.scheme == "faulty"


def test_the_first_url_that_answers_is_used(faults: Faults) -> None:
    faults.connect = [ConnectError("refused"), ConnectError("refused")]
    urls = "faulty://a;faulty://b;memory://failover"
    with Connection(urls, plugins=faults.plugins) as connection:
        assert connection.transport.driver_type == "memory"
        assert connection.as_uri() == "memory://failover"
        assert connection.info()["alternates"] == ["faulty://a", "faulty://b"]


def test_a_real_broker_that_does_not_answer_is_passed_over() -> None:
    pytest.importorskip("kombu_redis")
    dead = f"redis://127.0.0.1:{closed_port()}"
    with Connection([dead], alternates=["memory://failover"]) as connection:
        assert connection.connect().driver_type == "memory"


def test_an_error_tells_of_the_last_url_if_none_answers(faults: Faults) -> None:
    faults.connect = [ConnectError("first"), ConnectError("second"), ConnectError("again")]
    connection = Connection("faulty://a;faulty://b", plugins=faults.plugins)
    with pytest.raises(ConnectError, match="second"):
        connection.connect()
    with connection:
        connection.connect()
        assert connection.as_uri() == "faulty://b"


def test_the_default_channel_is_one_that_is_open(faults: Faults) -> None:
    with faults.open() as connection:
        channel = connection.default_channel
        assert connection.default_channel is channel
        assert connection.channel() is not channel
        with pytest.raises(NotFoundError):
            channel.queue_declare("nowhere", passive=True)
        assert connection.default_channel is not channel
        assert connection.default_channel.is_open


def test_a_released_connection_can_be_used_again(faults: Faults) -> None:
    connection = faults.open()
    for _ in range(2):
        with connection:
            Queue("q")(connection).declare()
    assert len(faults.transports) == 2


# -- what it says of errors ------------------------------------------------------------------


def test_an_idle_connection_times_out_as_the_builtin_error(faults: Faults) -> None:
    with faults.open() as connection:
        Exchange("e")(connection).declare()
        for expected in (OperationTimeoutError, TimeoutError):
            with pytest.raises(expected):
                connection.drain_events(timeout=0)
        connection.heartbeat_check()


def test_errors_are_sorted_by_what_cures_them() -> None:
    connection = BrokerConnection("memory://")
    assert issubclass(ConnectionLostError, connection.connection_errors)
    assert issubclass(AuthenticationError, connection.connection_errors)
    assert issubclass(ConnectError, connection.recoverable_connection_errors)
    assert connection.channel_errors == (ChannelError, ConsumerCancelledError)
    assert connection.recoverable_channel_errors == (ConsumerCancelledError,)
    assert not issubclass(TimeoutError, connection.connection_errors)


def test_a_backoff_may_be_given_for_recovery() -> None:
    with pytest.raises(ConfigurationError):
        Connection("memory://", recovery=Backoff(start=-1))
