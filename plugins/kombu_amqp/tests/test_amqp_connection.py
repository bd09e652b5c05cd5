"""From URL and options to a connection: virtual hosts, names, TLS, and what errors tell."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kombu_amqp.parameters import Endpoint, endpoint_of
from kombu_core import Connection
from kombu_core.exceptions import (
    AuthenticationError,
    ChannelLimitExceededError,
    ConfigurationError,
    ConnectError,
)
from kombu_core.testing.brokers import BrokerServer, RabbitMQServer, free_port
from kombu_core.testing.harness import fetch, publish, until
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from plugins.kombu_amqp.tests.conftest import Open

SUBJECT: Final = "kombu-client"


def endpoint(url: str, **options: Any) -> Endpoint:
    return endpoint_of(TransportParameters(parse(url), options))


class TestURL:
    @pytest.mark.parametrize(
        ("url", "virtual_host"),
        [
            ("amqp://host", "/"),
            ("amqp://host/", "/"),
            ("amqp://host//", "/"),
            ("amqp://host/%2F", "/"),
            ("amqp://host/name", "name"),
            ("amqp://host/%2Fname", "/name"),
            ("amqp://host//name", "/name"),
            ("amqp://host/a%2Fb%20c", "a/b c"),
        ],
    )
    def test_virtual_hosts(self, url: str, virtual_host: str) -> None:
        assert endpoint(url).virtual_host == virtual_host

    @pytest.mark.parametrize(
        ("url", "port", "is_tls"),
        [
            ("amqp://host", 5672, False),
            ("pyamqp://host:1", 1, False),
            ("amqps://host", 5671, True),
            ("pikas://host", 5671, True),
            ("pika://host", 5672, False),
        ],
    )
    def test_ports_and_tls(self, url: str, port: int, is_tls: bool) -> None:
        found = endpoint(url)
        assert (found.port, found.tls is not None) == (port, is_tls)

    def test_a_guest_only_without_a_user(self) -> None:
        assert endpoint("amqp://").userid == "guest"
        assert endpoint("amqp://").password.reveal() == "guest"
        assert not endpoint("amqp://me@host").password

    @pytest.mark.parametrize(
        "options",
        [
            {"confirm": True},
            {"heartbeat": -1},
            {"frame_max": 100},
            {"channel_max": 70_000},
            {"login_method": "MAGIC"},
            {"socket_timeout": 0},
            {"ssl_ca_certs": "/no/such/file"},
        ],
        ids=str,
    )
    def test_bad_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            endpoint("amqps://host", **options)

    def test_nothing_secret_is_shown(self) -> None:
        found = endpoint("amqp://me:secret@host", ssl_keyfile_password="secret")
        assert "secret" not in repr(found)


def test_a_wrong_password(scheme: str, rabbitmq_server: BrokerServer) -> None:
    url = f"{scheme}://guest:hunter2@127.0.0.1:{rabbitmq_server.port}//"
    with pytest.raises(AuthenticationError) as caught:
        Connection(url).connect()
    assert "ACCESS_REFUSED" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_no_such_virtual_host(scheme: str, rabbitmq_server: BrokerServer) -> None:
    url = f"{scheme}://guest:guest@127.0.0.1:{rabbitmq_server.port}/nowhere"
    with pytest.raises(AuthenticationError, match="nowhere"):
        Connection(url).connect()


def test_somebody_who_speaks_something_else(scheme: str, redis_server: BrokerServer) -> None:
    url = f"{scheme}://guest:guest@127.0.0.1:{redis_server.port}//"
    with pytest.raises(ConnectError):
        Connection(url, connect_timeout=2).connect()


def test_amqplain(rabbitmq_server: BrokerServer) -> None:
    with Connection(rabbitmq_server.url + "?login_method=AMQPLAIN") as connection:
        assert connection.channel().is_open


def test_channels_are_limited(open_connection: Open) -> None:
    connection = open_connection(channel_max=3)
    channels = [connection.channel() for _ in range(3)]
    with pytest.raises(ChannelLimitExceededError):
        connection.channel()
    channels[0].close()
    assert connection.channel().is_open


# -- one server with everything ---------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Iterator[Path]:
    """A directory with an authority (ca), a server's certificate and a client's, and keys.

    The server's user reads them. pytest's own directories are for no other user: each run of it
    sees to that, also for those of the others.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    with tempfile.TemporaryDirectory(prefix="kombu-tls-") as directory:
        Path(directory).chmod(0o755)
        _certify(Path(directory))
        yield Path(directory)


def _certify(place: Path) -> None:

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=place, check=True, capture_output=True)

    new = "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key"
    openssl(new.format(name="ca") + " -x509 -days 2 -out ca.pem")
    (place / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", SUBJECT):
        openssl(new.format(name=name) + f" -out {name}.csr")
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile ext -out {name}.pem"
        )
        (place / f"{name}.key").chmod(0o644)


class SecureServer(RabbitMQServer):
    """With TLS beside the plain port, users by certificate, and the management interface."""

    def __init__(self, authority: Path) -> None:
        self.tls_port = free_port()
        self.authority = authority
        super().__init__(
            plugins=("rabbitmq_management", "rabbitmq_auth_mechanism_ssl"),
            config={
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.cacertfile": str(authority / "ca.pem"),
                "ssl_options.certfile": str(authority / "server.pem"),
                "ssl_options.keyfile": str(authority / "server.key"),
                "ssl_options.verify": "verify_peer",
                "ssl_options.fail_if_no_peer_cert": "false",
                "auth_mechanisms.1": "PLAIN",
                "auth_mechanisms.2": "EXTERNAL",
                "ssl_cert_login_from": "common_name",
            },
        )

    def manage(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call the management interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": "Basic " + b64encode(b"guest:guest").decode(),
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@pytest.fixture(scope="module")
def secure(authority: Path) -> Iterator[SecureServer]:
    with SecureServer(authority) as server:
        yield server


Dial = Callable[..., Connection]


@pytest.fixture
def dial(scheme: str, secure: SecureServer) -> Iterator[Dial]:
    """Connects by TLS."""
    opened: list[Connection] = []

    def dial(userinfo: str = "guest:guest@", **options: Any) -> Connection:
        url = f"{scheme}s://{userinfo}127.0.0.1:{secure.tls_port}//"
        opened.append(Connection(url, transport_options=options, heartbeat=1))
        opened[-1].connect()
        return opened[-1]

    yield dial
    for connection in opened:
        connection.release()


def test_tls(dial: Dial, authority: Path, token: str) -> None:
    connection = dial(ssl_ca_certs=str(authority / "ca.pem"))
    channel = connection.channel()
    channel.queue_declare(token)
    for size in (10, 100_000, 8_000_000):
        publish(channel, "", token, b"x" * size)
        assert fetch(channel, token).body == b"x" * size
    connection.Producer(channel).publish_many(range(5000), token)
    assert channel.queue_delete(token) == 5000


def test_a_server_without_a_known_authority_is_refused(dial: Dial) -> None:
    with pytest.raises(ConnectError, match="certificate"):
        dial()


def test_a_server_of_another_name_is_refused(dial: Dial, authority: Path) -> None:
    with pytest.raises(ConnectError, match="certificate"):
        dial(ssl_ca_certs=str(authority / "ca.pem"), ssl_server_name="elsewhere.example")


def test_an_unverified_server_if_it_must_be(dial: Dial) -> None:
    assert dial(ssl_cert_reqs="none").channel().is_open


def test_a_user_by_certificate(dial: Dial, secure: SecureServer, authority: Path) -> None:
    secure.manage(f"users/{SUBJECT}", "PUT", {"password_hash": "", "tags": ""})
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    secure.manage(f"permissions/%2F/{SUBJECT}", "PUT", rights)
    connection = dial(
        "",
        login_method="EXTERNAL",
        ssl_ca_certs=str(authority / "ca.pem"),
        ssl_certfile=str(authority / f"{SUBJECT}.pem"),
        ssl_keyfile=str(authority / f"{SUBJECT}.key"),
    )
    channel = connection.channel()
    channel.queue_declare("by-certificate", auto_delete=True)
    publish(channel, "", "by-certificate", "x", user_id=SUBJECT)
    assert fetch(channel, "by-certificate").properties["user_id"] == SUBJECT


def test_a_connection_has_a_name(scheme: str, secure: SecureServer) -> None:
    url = f"{scheme}://guest:guest@127.0.0.1:{secure.port}//"
    options = {"connection_name": f"my {scheme}", "client_properties": {"team": "blue"}}
    with Connection(url, transport_options=options) as connection:
        connection.connect()

        def seen() -> Any:
            for one in secure.manage("connections"):
                if one.get("user_provided_name") == f"my {scheme}":
                    return one
            return None

        found = until(seen, timeout=15)
    assert found["client_properties"]["team"] == "blue"
    assert found["client_properties"]["product"]


def test_a_virtual_host_with_a_slash(scheme: str, secure: SecureServer) -> None:
    secure.manage("vhosts/a%2Fb", "PUT", {})
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    secure.manage("permissions/a%2Fb/guest", "PUT", rights)
    with Connection(f"{scheme}://guest:guest@127.0.0.1:{secure.port}/a%2Fb") as connection:
        assert connection.channel().is_open
