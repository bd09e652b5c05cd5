"""Launchers of private brokers: Redis, RabbitMQ, beanstalkd, PostgreSQL and MariaDB.

Each runs the broker's own binary and speaks the first words of its protocol with a plain socket,
so that neither a container nor a driver is needed:

    with RedisServer() as redis:
        ...  # connect to redis.url
        redis.kill()
        redis.start()

`open_server(RedisServer)` does the same unless `KOMBU_TEST_REDIS_URL` names a server to use.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from kombu_core.testing.process import (
    LOOPBACK,
    BrokerFaultError,
    BrokerMissingError,
    BrokerServerError,
    BrokerStartError,
    ProcessTree,
    find_binary,
    free_port,
    run,
)
from kombu_core.testing.server import (
    BrokerServer,
    ExternalServer,
    PrivateServer,
    open_server,
    variable,
)

__all__ = [
    "BROKERS",
    "BeanstalkdServer",
    "BrokerFaultError",
    "BrokerMissingError",
    "BrokerServer",
    "BrokerServerError",
    "BrokerStartError",
    "ExternalServer",
    "MariaDBServer",
    "PostgresServer",
    "PrivateServer",
    "RabbitMQServer",
    "RedisServer",
    "TlsFiles",
    "free_port",
    "open_server",
    "variable",
]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A server's certificate and key, and the authority that clients check it against."""

    certificate: Path
    key: Path
    authority: Path


class RedisServer(PrivateServer):
    """Redis, or Valkey. Starts in some 40 ms, so a test may have one of its own.

    What it answered survives `kill` by default: a write is in the operating system's hands before
    the reply, and only a power failure would lose it.

    Args:
        password: Of the default user.
        appendonly: When its log is flushed to the disk; None: nothing survives.
        unix_socket: Listen on `socket_path` too.
        tls: Speak TLS, and only that, on the port.
        config: Further directives, as `{"maxmemory": "1mb"}`.
    """

    name = "redis"
    binaries = ("redis-server", "valkey-server")

    def __init__(
        self,
        *,
        password: str | None = None,
        appendonly: Literal["always", "everysec", "no"] | None = "everysec",
        unix_socket: bool = False,
        tls: TlsFiles | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.password = password
        self.appendonly = appendonly
        self.socket_path = self.directory / "redis.sock" if unix_socket else None
        self.tls = tls
        self.config = dict(config or {})

    @property
    def url(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"{scheme}://{credentials}{LOOPBACK}:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no" if self.appendonly is None else "yes",
            "appendfsync": self.appendonly or "no",
        }
        if self.password:
            settings["requirepass"] = self.password
        if self.socket_path:
            settings["unixsocket"] = str(self.socket_path)
        if self.tls:
            settings |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self.tls.certificate),
                "tls-key-file": str(self.tls.key),
                "tls-ca-cert-file": str(self.tls.authority),
                "tls-auth-clients": "no",
            }
        settings |= self.config
        pairs = [(f"--{key}", value) for key, value in settings.items()]
        return [self.binary, *(word for pair in pairs for word in pair)]

    def handshake(self) -> bool:
        request = b"PING\r\n"
        if self.password:
            word = self.password.encode()
            request = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(word), word) + request
        with self.dial() as connection:
            if self.tls:
                context = ssl.create_default_context(cafile=str(self.tls.authority))
                connection = context.wrap_socket(connection, server_hostname=LOOPBACK)
            with connection, connection.makefile("rb") as replies:
                connection.sendall(request)
                if self.password and not replies.readline().startswith(b"+OK"):
                    return False
                # While it loads its data it answers -LOADING.
                return replies.readline().startswith(b"+PONG")


class RabbitMQServer(PrivateServer):
    """RabbitMQ. Takes some eight seconds to start, so callers share one.

    It is a node of its own, with its own Erlang port mapper, cookie, names and data, and its memory
    and disk alarms are out of the way.

    Args:
        plugins: To enable, as `("rabbitmq_management",)`; that one listens on `management_port`.
        config: Further lines of rabbitmq.conf, as `{"consumer_timeout": "60000"}`.
    """

    name = "rabbitmq"
    binaries = ("rabbitmq-server",)
    users = ("rabbitmq",)
    start_timeout = 90.0
    stop_timeout = 30.0

    def __init__(
        self, *, plugins: Sequence[str] = (), config: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._epmd_binary = find_binary(("epmd",))
        self.plugins = tuple(plugins)
        self.config = dict(config or {})
        self.management_port = free_port()
        self.node = f"kombu-{self.port}@localhost"
        self._distribution_port = free_port()
        self._epmd_port = free_port()
        self._epmd: ProcessTree | None = None

    @classmethod
    def directories(cls) -> Iterable[Path]:
        # The script that Debian has on the PATH drops to another user by itself and then reads
        # that user's home; this is the one that it calls.
        return (Path("/usr/lib/rabbitmq/bin"),)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    def prepare(self) -> None:
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{self.port}",
            "vm_memory_high_watermark.relative": "0.95",
            "disk_free_limit.absolute": "1MB",
            "heartbeat": "30",
        }
        if "rabbitmq_management" in self.plugins:
            settings["management.tcp.ip"] = LOOPBACK
            settings["management.tcp.port"] = str(self.management_port)
        settings |= self.config
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines), encoding="utf-8")
        enabled = self.directory / "enabled_plugins"
        enabled.write_text(f"[{','.join(self.plugins)}].\n", encoding="utf-8")

    def environment(self) -> Mapping[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("RABBITMQ_", "ERL_"))
        }
        directory = str(self.directory)
        return inherited | {
            "HOME": directory,  # where the cookie is
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # Idle schedulers sleep instead of spinning: a test machine has other things to do.
            "ERL_FLAGS": "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": f"{directory}/absent.conf",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{directory}/absent.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{directory}/data",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{directory}/pid",
        }

    def start(self) -> None:
        if not self.is_running:
            # The node would start a port mapper that outlives it; one of our own does not.
            self._stop_epmd()
            self._epmd = ProcessTree(
                [self._epmd_binary, "-port", str(self._epmd_port), "-address", LOOPBACK],
                log=self.directory / "epmd.log",
            )
        super().start()

    def stop(self) -> None:
        super().stop()
        self._stop_epmd()

    def _stop_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def command(self) -> Sequence[str | Path]:
        return [self.binary]

    def handshake(self) -> bool:
        with self.dial() as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            # A method frame (1) on channel 0 with Connection.Start (10, 10). The listeners are the
            # last thing that a node opens.
            frame = _receive(connection, 11)
            return frame[:3] == b"\x01\x00\x00" and frame[7:] == b"\x00\x0a\x00\x0a"


class BeanstalkdServer(PrivateServer):
    """beanstalkd. Starts in some milliseconds.

    Args:
        binlog: Keep jobs on disk, so that they survive `kill`.
        fsync: Flush the binlog at every write, so that they survive a power failure too.
        max_job_size: In bytes; None: its default, 65535.
    """

    name = "beanstalkd"
    binaries = ("beanstalkd",)

    def __init__(
        self, *, binlog: bool = True, fsync: bool = True, max_job_size: int | None = None
    ) -> None:
        super().__init__()
        self.fsync = fsync
        self.binlog = self.directory / "binlog" if binlog else None
        self.max_job_size = max_job_size

    @property
    def url(self) -> str:
        return f"beanstalk://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        if self.binlog:
            self.binlog.mkdir()

    def command(self) -> Sequence[str | Path]:
        command: list[str | Path] = [self.binary, "-l", LOOPBACK, "-p", str(self.port)]
        if self.binlog:
            command += ["-b", self.binlog, *(("-f", "0") if self.fsync else ("-F",))]
        if self.max_job_size is not None:
            command += ["-z", str(self.max_job_size)]
        return command

    def handshake(self) -> bool:
        with self.dial() as connection, connection.makefile("rb") as replies:
            connection.sendall(b"stats\r\n")
            return replies.readline().startswith(b"OK ")


class PostgresServer(PrivateServer):
    """PostgreSQL, with one superuser and one database, both named `kombu`, and no password.

    It does not flush to the disk: its data survive `kill`, not a power failure.

    Args:
        config: Further settings, as `{"max_connections": "20"}`.
    """

    name = "postgres"
    binaries = ("postgres",)
    users = ("postgres",)
    # Waits for no client.
    stop_signal = signal.SIGINT
    start_timeout = 30.0

    def __init__(self, *, config: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._initdb = find_binary(("initdb",), self.directories())
        self.config = dict(config or {})

    @classmethod
    def directories(cls) -> Iterable[Path]:
        # Debian keeps them off the PATH, by version; the newest first.
        places = Path("/usr/lib/postgresql").glob("*/bin")
        return sorted(places, key=lambda place: float(place.parent.name), reverse=True)

    @property
    def url(self) -> str:
        return f"postgresql://kombu@{LOOPBACK}:{self.port}/kombu"

    def prepare(self) -> None:
        options = ["-U", "kombu", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        initdb: list[str | Path] = [self._initdb, "-D", self.directory / "data", *options]
        run(initdb, user=self.user, log=self.log, timeout=60)
        single: list[str | Path] = [
            self.binary,
            "--single",
            "-D",
            self.directory / "data",
            "postgres",
        ]
        words = b"CREATE DATABASE kombu;\n"
        run(single, user=self.user, log=self.log, timeout=60, words=words)

    def command(self) -> Sequence[str | Path]:
        settings = {"fsync": "off", "listen_addresses": LOOPBACK} | self.config
        settings["unix_socket_directories"] = str(self.directory)
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [self.binary, "-D", self.directory / "data", "-p", str(self.port), *words]

    def handshake(self) -> bool:
        # Protocol 3.0, then pairs of parameters; every message has its own length in front.
        startup = struct.pack("!I", 3 << 16) + b"user\0kombu\0database\0kombu\0\0"
        with self.dial() as connection:
            connection.sendall(struct.pack("!I", len(startup) + 4) + startup)
            # R: it asks for authentication, here for none; E: it refuses, as while it recovers.
            if _receive(connection, 1) != b"R":
                return False
            connection.sendall(b"X\x00\x00\x00\x04")
            return True


class MariaDBServer(PrivateServer):
    """MariaDB, with a user, its password and a database, all named `kombu`.

    Args:
        config: Further settings, as `{"max_connections": "20"}`.
    """

    name = "mariadb"
    binaries = ("mariadbd", "mysqld")
    users = ("mysql",)
    start_timeout = 30.0

    def __init__(self, *, config: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._install_db = find_binary(("mariadb-install-db",))
        self.config = dict(config or {})

    @property
    def url(self) -> str:
        return f"mysql://kombu:kombu@{LOOPBACK}:{self.port}/kombu"

    @property
    def _temporary(self) -> Path:
        """Of its own: each that starts deletes the tables that it finds in such a directory."""
        return self.directory / "tmp"

    def prepare(self) -> None:
        (self.directory / "init.sql").write_text(_MARIADB_INIT, encoding="utf-8")
        options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._temporary.mkdir()
        if self.user:
            shutil.chown(self._temporary, self.user)
        places = [f"--datadir={self.directory}/data", f"--tmpdir={self._temporary}"]
        command: list[str | Path] = [self._install_db, *options, *places]
        run(command, user=self.user, log=self.log, timeout=60)

    def command(self) -> Sequence[str | Path]:
        directory = self.directory
        settings = {
            "datadir": f"{directory}/data",
            "socket": f"{directory}/mariadb.sock",
            "tmpdir": str(self._temporary),
            "pid-file": f"{directory}/pid",
            "init-file": f"{directory}/init.sql",
            "bind-address": LOOPBACK,
            "port": str(self.port),
            "character-set-server": "utf8mb4",
            # Survives `kill`, not a power failure.
            "innodb-flush-log-at-trx-commit": "2",
            "skip-name-resolve": "1",
        }
        settings |= self.config
        return [self.binary, "--no-defaults", *(f"--{k}={v}" for k, v in settings.items())]

    def handshake(self) -> bool:
        with self.dial() as connection:
            # It speaks first: three bytes of length, a number, and the protocol's version, 10; an
            # error packet has 255 there.
            return _receive(connection, 5)[4:] == b"\x0a"


def _receive(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer if the other side closes first."""
    received = b""
    while len(received) < size and (more := connection.recv(size - len(received))):
        received += more
    return received


_MARIADB_INIT: Final = """\
CREATE DATABASE IF NOT EXISTS kombu CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS kombu@'%' IDENTIFIED BY 'kombu';
GRANT ALL ON *.* TO kombu@'%';
"""

#: Every launcher by the broker's name.
BROKERS: Final[Mapping[str, type[PrivateServer]]] = {
    launcher.name: launcher
    for launcher in (RedisServer, RabbitMQServer, BeanstalkdServer, PostgresServer, MariaDBServer)
}
