"""From URL and options to a connection: schemes, credentials, TLS, and what errors tell."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

import kombu_redis
from kombu_core import Connection
from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    KombuError,
)
from kombu_core.message import Envelope
from kombu_core.testing.brokers import BrokerServer, RedisServer, TlsFiles
from kombu_core.transport import TransportParameters
from kombu_core.url import Secret, parse
from kombu_core.virtual.store import Batch, Put
from kombu_redis.connections import RedisConnections, Script, Wire
from kombu_redis.store import RedisStore
from kombu_redis.transport import RedisTransport

OpenStore = Callable[..., RedisStore]

PASSWORD = "c0rrect-horse/battery"
WRONG = "wr0ng-and-secret"


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD, unix_socket=True, appendonly=None) as server:
        yield server


def open_url(url: str, *, given_ssl: Any = None, **options: Any) -> RedisStore:
    parameters = TransportParameters(parse(url), options, ssl=given_ssl)
    return RedisTransport(parameters).open_store()


def works(store: RedisStore) -> bool:
    store.commit(Batch([Put("q", Envelope(b"x", {}, {}))]))
    ready = store.count("q").ready
    store.close()
    return ready > 0


def told(error: BaseException | None) -> str:
    """Everything that an error and what is chained to it would show."""
    if error is None:
        return ""
    return f"{error} {error!r} {error.args}" + told(error.__cause__) + told(error.__context__)


def test_the_hook_serves_its_schemes() -> None:
    for scheme in ("redis", "rediss", "redis+socket"):
        assert kombu_redis.kombu_transport(scheme) is RedisTransport
    assert kombu_redis.kombu_transport("amqp") is None


class TestOptions:
    def test_of_the_url_and_of_the_call(self, redis_server: BrokerServer, token: str) -> None:
        url = f"{redis_server.url}?client_name={token}&lease=7"
        transport = RedisTransport(TransportParameters(parse(url), {"prefix": token}))
        store = transport.open_store()
        clients = Redis.from_url(redis_server.url).client_list()
        assert token in {client["name"] for client in clients}
        assert works(store)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"visibility_timeout": 60}, "visibility_timeout"),
            ({"lease": "0"}, "lease"),
            ({"socket_timeout": "soon"}, "socket_timeout"),
            ({"prefix": "a{b"}, "prefix"),
            ({"max_connections": 1}, "max_connections"),
            ({"ssl_cert_reqs": "perhaps"}, "ssl_cert_reqs"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            RedisTransport(TransportParameters(parse("redis://localhost"), options))

    def test_a_virtual_host_is_a_number(self) -> None:
        with pytest.raises(ConfigurationError, match="database"):
            RedisTransport(TransportParameters(parse("redis://localhost/orders"), {}))
        with pytest.raises(ConfigurationError, match="file"):
            RedisTransport(
                TransportParameters(parse("rediss://localhost"), {"ssl_ca_certs": "/nowhere"})
            )

    def test_virtual_hosts_share_nothing(self, redis_server: BrokerServer, token: str) -> None:
        one = open_url(redis_server.url.removesuffix("/0") + "/1", prefix=token)
        two = open_url(redis_server.url, prefix=token)
        one.commit(Batch([Put("q", Envelope(b"x", {}, {}))]))
        assert (one.count("q").ready, two.count("q").ready) == (1, 0)
        one.close()
        two.close()


class TestCredentials:
    def test_the_right_password(self, guarded: RedisServer) -> None:
        assert works(open_url(guarded.url))

    @pytest.mark.parametrize("user", ["", "default", "nobody"])
    def test_a_wrong_password_is_refused_and_not_told(
        self, guarded: RedisServer, user: str
    ) -> None:
        with pytest.raises(AuthenticationError) as caught:
            open_url(f"redis://{user}:{WRONG}@127.0.0.1:{guarded.port}/0")
        assert not caught.value.is_retryable
        assert WRONG not in told(caught.value)

    def test_a_wrong_password_is_not_tried_again(self, guarded: RedisServer) -> None:
        tried: list[BaseException] = []
        connection = Connection(f"redis://:{WRONG}@127.0.0.1:{guarded.port}/0")
        with pytest.raises(AuthenticationError):
            connection.ensure_connection(lambda error, interval: tried.append(error), timeout=30)
        assert tried == []

    def test_no_password(self, guarded: RedisServer) -> None:
        with pytest.raises(AuthenticationError):
            open_url(f"redis://127.0.0.1:{guarded.port}/0")

    def test_a_server_that_repeats_the_password(self) -> None:
        """As one that does not know AUTH does: "unknown command, with args beginning with"."""

        def connect() -> Wire:
            raise ResponseError(f"unknown command 'AUTH', with args beginning with: '{WRONG}'")

        connections = RedisConnections(connect, secrets=[Secret(WRONG)])
        with pytest.raises(KombuError) as caught:
            connections.open()
        assert "unknown command" in str(caught.value)
        assert WRONG not in told(caught.value)

    def test_users_of_the_access_control_list(self, guarded: RedisServer) -> None:
        admin = Redis(port=guarded.port, password=PASSWORD)
        admin.acl_setuser(
            "app", enabled=True, passwords=["+" + PASSWORD], keys=["{kombu:*"], commands=["+@all"]
        )
        quoted = PASSWORD.replace("/", "%2F")
        url = f"redis://app:{quoted}@127.0.0.1:{guarded.port}/0"
        assert works(open_url(url))
        assert works(open_url(url.replace("app:", "other:"), username="app"))
        with pytest.raises(AccessRefusedError):
            works(open_url(url, prefix="forbidden"))


class TestAddresses:
    def test_a_unix_socket(self, guarded: RedisServer) -> None:
        quoted = PASSWORD.replace("/", "%2F")
        assert works(open_url(f"redis+socket://:{quoted}@{guarded.socket_path}?virtual_host=2"))

    def test_nobody_listens(self) -> None:
        with pytest.raises(ConnectError) as caught:
            open_url("redis://127.0.0.1:1/0")
        assert caught.value.is_retryable

    def test_nobody_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            with pytest.raises(ConnectError):
                open_url(url, socket_timeout=0.2)


class TestTls:
    @pytest.fixture
    def files(self, tmp_path: Path) -> TlsFiles:
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=broker"
        extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
        output = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*command.split(), *extension, *output], check=True, capture_output=True)
        return TlsFiles(certificate, key, certificate)

    @pytest.fixture
    def server(self, files: TlsFiles) -> Iterator[RedisServer]:
        with RedisServer(tls=files, appendonly=None) as server:
            yield server

    def test_it_is_verified_by_default(self, server: RedisServer, files: TlsFiles) -> None:
        authority = str(files.authority)
        other_name = server.url.replace("127.0.0.1", "localhost")
        assert works(open_url(server.url, ssl_ca_certs=authority))
        with pytest.raises(ConnectError, match=r"(?i)verify"):
            open_url(server.url)
        with pytest.raises(ConnectError, match=r"(?i)verify"):
            open_url(other_name, ssl_ca_certs=authority)
        assert works(open_url(other_name, ssl_ca_certs=authority, ssl_check_hostname=False))
        assert works(open_url(other_name, ssl_cert_reqs="none"))

    def test_a_context_of_the_application(self, server: RedisServer, files: TlsFiles) -> None:
        context = ssl.create_default_context(cafile=str(files.authority))
        assert works(open_url(server.url.replace("rediss:", "redis:"), given_ssl=context))

    def test_close_ends_a_wait(self, server: RedisServer, files: TlsFiles) -> None:
        store = open_url(server.url, ssl_ca_certs=str(files.authority))
        threading.Timer(0.1, store.close).start()
        begun = time.monotonic()
        assert store.wait(["q"], 30) is False
        assert time.monotonic() - begun < 5

    def test_plain_talk_to_a_tls_port(self, server: RedisServer) -> None:
        with pytest.raises(ConnectError):
            open_url(server.url.replace("rediss:", "redis:"), socket_timeout=1)


def test_scripts_are_named_by_their_digest() -> None:
    assert len(Script.load("commit").sha) == 40
    assert "local" not in repr(Script.load("commit"))


def test_the_driver_has_what_is_used_of_it() -> None:
    transport = RedisTransport(TransportParameters(parse("redis://localhost"), {}))
    wire = transport._connection_maker()()
    methods = [name for name in vars(Wire) if not name.startswith("_")]
    assert len(methods) >= 5
    assert all(hasattr(wire, name) for name in [*methods, "_sock"])
