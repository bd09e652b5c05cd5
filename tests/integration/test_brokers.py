"""Each launcher really starts its broker, and can hurt it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from kombu_core.testing.brokers import (
    BROKERS,
    BeanstalkdServer,
    BrokerFaultError,
    BrokerServer,
    BrokerStartError,
    ExternalServer,
    PrivateServer,
    RabbitMQServer,
    RedisServer,
    TlsFiles,
    open_server,
)

LAUNCHERS = [pytest.param(each, marks=pytest.mark.broker(name)) for name, each in BROKERS.items()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_server_starts_and_survives_every_fault(launcher: type[PrivateServer]) -> None:
    with launcher() as server:
        assert server.is_running
        assert server.handshake()
        assert str(server.port) in server.url

        server.kill()
        assert not server.is_running
        with pytest.raises(OSError, match="refused"):
            server.dial()
        with pytest.raises(BrokerFaultError, match="not running"):
            server.pause()

        server.start()
        assert server.handshake()

        server.pause()
        server.start()  # Idempotent: a paused server runs.
        with server.dial() as silent:  # The kernel accepts; nobody answers.
            silent.sendall(b"\r\n")
            silent.settimeout(0.2)
            with pytest.raises(TimeoutError):
                silent.recv(1)
        server.resume()
        assert server.handshake()

        first = server.pid
        server.restart()
        assert server.handshake()
        assert server.pid != first

        last, directory = server.pid, server.directory
        server.pause()
    assert not is_alive(last)
    assert not directory.exists()
    server.close()


def redis(server: RedisServer, *words: bytes) -> bytes:
    """Return the first line of the reply to one command."""
    request = b"*%d\r\n" % len(words)
    request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    with server.dial() as connection, connection.makefile("rb") as replies:
        if server.password:
            connection.sendall(b'AUTH "%s"\r\n' % server.password.encode())
            replies.readline()
        connection.sendall(request)
        reply = replies.readline()
        return replies.readline() if reply.startswith(b"$") else reply


@pytest.mark.broker("redis")
def test_redis_keeps_its_data_when_killed() -> None:
    with RedisServer(password="s3cret word") as server:
        assert "s3cret%20word@" in server.url
        assert redis(server, b"SET", b"key", b"value") == b"+OK\r\n"
        server.kill()
        server.start()
        assert redis(server, b"GET", b"key") == b"value\r\n"


@pytest.mark.broker("redis")
def test_redis_listens_on_a_unix_socket() -> None:
    with RedisServer(unix_socket=True, appendonly=None, config={"maxclients": "7"}) as server:
        assert server.socket_path is not None
        assert server.socket_path.is_socket()
        assert redis(server, b"CONFIG", b"GET", b"maxclients") == b"*2\r\n"


@pytest.mark.broker("redis")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_redis_speaks_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    files = ["-keyout", str(key), "-out", str(certificate)]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *options, *files]
    subprocess.run(request, check=True, capture_output=True)
    with RedisServer(tls=TlsFiles(certificate, key, certificate), password="word") as server:
        assert server.url.startswith("rediss://")
        assert server.handshake()


@pytest.mark.broker("rabbitmq")
def test_rabbitmq_starts_with_plugins() -> None:
    with (
        RabbitMQServer(plugins=["rabbitmq_management"]) as server,
        urlopen(f"http://127.0.0.1:{server.management_port}/", timeout=10) as page,
    ):
        assert page.status == 200


@pytest.mark.broker("beanstalkd")
def test_beanstalkd_keeps_its_jobs_when_killed() -> None:
    with BeanstalkdServer(max_job_size=100) as server:
        with server.dial() as connection:
            connection.sendall(b"put 0 0 60 4\r\nbody\r\n")
            assert connection.recv(100).startswith(b"INSERTED")
        server.kill()
        server.start()
        with server.dial() as connection:
            connection.sendall(b"peek-ready\r\n")
            assert b"body" in connection.recv(100)


@pytest.mark.broker("redis")
def test_a_server_that_does_not_start_shows_its_log() -> None:
    server = RedisServer(config={"no-such-directive": "1"})
    with pytest.raises(BrokerStartError, match="no-such-directive"):
        server.start()
    server.close()


@pytest.mark.broker("redis")
def test_a_server_dies_with_the_process_that_started_it() -> None:
    program = """if True:
        import time
        from kombu_core.testing.brokers import RedisServer
        server = RedisServer()
        server.start()
        print(server.pid, server.directory, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert is_alive(int(pid))
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while is_alive(int(pid)) and not is_zombie(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shutil.rmtree(directory)


def is_zombie(pid: int) -> bool:
    """Whether it ended and nobody has asked for its code yet, as where process 1 does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_url_in_the_environment_replaces_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOMBU_TEST_REDIS_URL", "redis://user:word@broker.example:7000/3")
    server = open_server(RedisServer)
    assert isinstance(server, ExternalServer)
    with server:
        assert server.url == "redis://user:word@broker.example:7000/3"
        assert server.port == 7000
        for fault in (server.kill, server.pause, server.resume, server.stop, server.restart):
            with pytest.raises(BrokerFaultError, match="KOMBU_TEST_REDIS_URL") as refused:
                fault()
            assert "word" not in str(refused.value)


@pytest.fixture(params=sorted(BROKERS))
def shared(request: pytest.FixtureRequest) -> BrokerServer:
    server: BrokerServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.mark.broker(*BROKERS)
def test_the_session_has_one_of_each(shared: BrokerServer) -> None:
    assert isinstance(shared, PrivateServer | ExternalServer)
    assert shared.url
