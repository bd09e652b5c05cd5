"""The proxy forwards, and misbehaves when told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kombu_core.testing.process import free_port
from kombu_core.testing.proxy import TcpProxy


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    self.heard += chunk
                    connection.sendall(chunk)
            except OSError:
                return

    def close(self) -> None:
        # A plain close would leave the thread in accept for ever.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[TcpProxy]:
    with TcpProxy(echo.port) as running:
        yield running


def dial(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(65536)


def test_it_forwards_and_counts(proxy: TcpProxy) -> None:
    with dial(proxy) as one, dial(proxy) as two:
        assert ask(one, b"one") == b"one"
        assert ask(two, b"two") == b"two"
        assert (proxy.accepted, proxy.connections, proxy.forwarded) == (2, 2, 12)
    wait_until_closed(proxy)
    assert proxy.accepted == 2


def wait_until_closed(proxy: TcpProxy) -> None:
    deadline = time.monotonic() + 5
    while proxy.connections:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_carries_much_and_the_end_of_it(proxy: TcpProxy) -> None:
    size, received = 5_000_000, 0
    with dial(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"x" * size,))
        sender.start()
        while received < size:
            received += len(connection.recv(65536))
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_cut_resets_and_the_next_connection_works(proxy: TcpProxy) -> None:
    with dial(proxy) as connection:
        assert ask(connection, b"hello") == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with dial(proxy) as connection:
        assert ask(connection, b"again") == b"again"


def test_refused_until_restored(proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.restore()
    with dial(proxy) as connection:
        assert ask(connection, b"back") == b"back"


def test_a_paused_link_is_silent_and_open(proxy: TcpProxy) -> None:
    with dial(proxy) as old:
        assert ask(old, b"before") == b"before"
        proxy.pause()
        with dial(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    ask(connection, b"held")
                connection.settimeout(5)
            proxy.restore()
            assert old.recv(10) == new.recv(10) == b"held"


def test_one_way_can_be_paused(echo: Echo, proxy: TcpProxy) -> None:
    with dial(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.pause("to_client")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(connection, b"heard")
        assert echo.heard == b"beforeheard"


def test_a_broker_that_is_away_resets() -> None:
    with (
        TcpProxy(free_port()) as nowhere,
        pytest.raises(ConnectionResetError),
        dial(nowhere) as connection,
    ):
        connection.recv(1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:s%40ret@localhost:6379/0?x=1", "redis://:s%40ret@127.0.0.1:{}/0?x=1"),
        ("amqp://localhost//", "amqp://127.0.0.1:{}//"),
    ],
)
def test_it_rewrites_a_url(proxy: TcpProxy, url: str, expected: str) -> None:
    assert proxy.rewrite(url) == expected.format(proxy.port)
