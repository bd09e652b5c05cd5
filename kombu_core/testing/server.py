"""A broker server for tests: what every launcher shares, and the stand-in for one given by URL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

from kombu_core.testing.process import (
    LOOPBACK,
    BrokerFaultError,
    BrokerMissingError,
    BrokerStartError,
    ProcessTree,
    find_binary,
    free_port,
    tail,
    unprivileged_user,
)


class BrokerServer(ABC):
    """A broker that a test may use, and may hurt if it is private.

    All methods block until the broker is in the new state. Not thread-safe. A context manager:
    entering starts it, leaving stops it.
    """

    #: The broker's name, as in `KOMBU_TEST_<NAME>_URL`.
    name: ClassVar[str]

    @property
    @abstractmethod
    def is_private(self) -> bool:
        """Whether it belongs to these tests, so that faults are allowed."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, credentials included."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The TCP port of the URL."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """The server's output, for messages about failures."""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait for its protocol to answer. Idempotent."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as its operator would. The data stay until `close`. Idempotent."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once with SIGKILL. The data stay, as far as it had written them."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it with SIGSTOP: connections stay open and nothing answers."""

    @abstractmethod
    def resume(self) -> None:
        """Undo `pause`; harmless otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and delete its data. Idempotent."""

    def restart(self) -> None:
        """Stop it and start it on the same port and data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PrivateServer(BrokerServer):
    """A broker started from its binary on a free loopback port in a temporary directory.

    A launcher says how: `binaries`, `command`, `url` and `handshake`, and where needed `prepare`
    and `environment`.
    """

    #: Names of its binary, the preferred one first.
    binaries: ClassVar[tuple[str, ...]]
    #: Users that it may drop to when the tests run as root; empty: it does not mind root.
    users: ClassVar[tuple[str, ...]] = ()
    #: The signal of an orderly, prompt stop.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Seconds until its protocol must answer, generous for a loaded machine.
    start_timeout: ClassVar[float] = 20.0
    stop_timeout: ClassVar[float] = 20.0

    def __init__(self) -> None:
        self.binary = find_binary(self.binaries, self.directories())
        self.user = unprivileged_user(*self.users) if self.users else None
        self._port = free_port()
        # Short: the path of a unix socket may have about a hundred characters.
        self.directory = Path(tempfile.mkdtemp(prefix=f"kombu-{self.name}-", dir=_memory()))
        self._tree: ProcessTree | None = None
        self._is_prepared = False

    @classmethod
    def directories(cls) -> Iterable[Path]:
        """Return where else than on the PATH its binaries may be."""
        return ()

    @classmethod
    def is_installed(cls) -> bool:
        """Whether its binary is here."""
        try:
            find_binary(cls.binaries, cls.directories())
        except BrokerMissingError:
            return False
        return True

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return the command that runs it in the foreground."""

    @abstractmethod
    def handshake(self) -> bool:
        """Return whether it serves: speak enough of its protocol to know. May raise OSError."""

    def prepare(self) -> None:
        """Create what the first start needs, in `self.directory`. Called once."""

    def environment(self) -> Mapping[str, str] | None:
        """Return its environment; None: that of the tests."""
        return None

    @property
    def is_private(self) -> bool:
        return True

    @property
    def port(self) -> int:
        return self._port

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        """The process that was started.

        Raises:
            BrokerFaultError: It does not run.
        """
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._tree is not None and self._tree.is_running

    def start(self) -> None:
        if self.is_running:
            return
        if not self._is_prepared:
            if self.user is not None:
                shutil.chown(self.directory, self.user)
            self.prepare()
            self._is_prepared = True
        self._tree = ProcessTree(
            self.command(), log=self.log, user=self.user, environment=self.environment()
        )
        self._wait_until_it_answers(self._tree)

    def _wait_until_it_answers(self, tree: ProcessTree) -> None:
        deadline = time.monotonic() + self.start_timeout
        problem = "no answer"
        while time.monotonic() < deadline and tree.is_running:
            try:
                if self.handshake():
                    return
            except OSError as error:
                problem = str(error)
            time.sleep(0.01)
        if not tree.is_running:
            problem = "it ended"
        tree.kill()
        raise BrokerStartError(
            f"{self.name} on port {self.port} did not start: {problem}\n{tail(self.log)}"
        )

    def stop(self) -> None:
        if self._tree is not None:
            # A paused process would not see the request.
            self._tree.signal(signal.SIGCONT)
            self._tree.terminate(self.stop_signal, self.stop_timeout)
            self._tree = None

    def kill(self) -> None:
        self._running().kill()

    def pause(self) -> None:
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._is_prepared = False

    def _running(self) -> ProcessTree:
        if self._tree is None or not self._tree.is_running:
            raise BrokerFaultError(f"{self.name} is not running")
        return self._tree

    def dial(self, port: int | None = None, timeout: float = 2.0) -> socket.socket:
        """Return a connection to it, for a handshake."""
        return socket.create_connection((LOOPBACK, port or self.port), timeout)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<{type(self).__name__} on port {self.port}, {state}>"


class ExternalServer(BrokerServer):
    """A broker that somebody else runs, given by its URL. Every fault is refused."""

    def __init__(self, name: str, url: str) -> None:
        self.broker = name
        self._url = url

    @property
    def is_private(self) -> bool:
        return False

    @property
    def url(self) -> str:
        return self._url

    @property
    def port(self) -> int:
        port = urlsplit(self._url).port
        if port is None:
            raise BrokerFaultError(f"the URL of the external {self.broker} names no port")
        return port

    @property
    def log(self) -> Path:
        raise self._refusal("read the log of")

    def start(self) -> None:
        """Do nothing: it runs already."""

    def stop(self) -> None:
        raise self._refusal("stop")

    def kill(self) -> None:
        raise self._refusal("kill")

    def pause(self) -> None:
        raise self._refusal("pause")

    def resume(self) -> None:
        raise self._refusal("resume")

    def close(self) -> None:
        """Do nothing: it is not ours."""

    def _refusal(self, what: str) -> BrokerFaultError:
        return BrokerFaultError(
            f"will not {what} the {self.broker} of {variable(self.broker)}: "
            "only a private server is hurt; unset the variable to let the tests start one"
        )


def _memory() -> str | None:
    """Return a directory in memory for the data of servers, unless TMPDIR says where to put it.

    Tests kill servers and not the machine, so nothing has to reach a disk; and a disk that others
    write to as well makes a server that waits for it miss the deadlines of tests.
    """
    memory = "/dev/shm"
    is_there = os.path.isdir(memory) and os.access(memory, os.W_OK | os.X_OK)
    return memory if is_there and "TMPDIR" not in os.environ else None


def variable(name: str) -> str:
    """Return the environment variable that replaces a private server by a URL."""
    return f"KOMBU_TEST_{name.upper()}_URL"


def open_server(launcher: type[PrivateServer]) -> BrokerServer:
    """Return the server that the environment names, else a new private one; not started yet.

    Raises:
        BrokerMissingError: Neither is there.
    """
    if url := os.environ.get(variable(launcher.name)):
        return ExternalServer(launcher.name, url)
    return launcher()
