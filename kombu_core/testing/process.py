"""A broker's own processes: started, signalled as a whole tree, and never left behind.

    BrokerServerError (KombuError)
    ├── BrokerMissingError      its binary is not installed
    ├── BrokerStartError        it did not answer; shows the end of its log
    └── BrokerFaultError        a fault was asked of a server that is not ours to hurt

Nothing in here knows a broker.
"""

from __future__ import annotations

import atexit
import os
import pwd
import random
import shutil
import signal as signals
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from kombu_core.exceptions import KombuError

LOOPBACK: Final = "127.0.0.1"

#: The end of the pipe without the word: the process that held it has died.
_WATCH: Final = 'read -r word; [ "$word" = done ] || kill -s KILL -- "-$0"'

#: Servers often live where the PATH of an ordinary user does not look.
_SYSTEM_DIRECTORIES: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class BrokerServerError(KombuError):
    """A broker for tests could not be used."""


class BrokerMissingError(BrokerServerError):
    """The binary of a broker is not installed."""


class BrokerStartError(BrokerServerError):
    """A broker was started and did not answer in its protocol."""


class BrokerFaultError(BrokerServerError):
    """A fault was asked of a broker that is not private, or not running."""


def find_binary(names: Sequence[str], directories: Iterable[Path] = ()) -> Path:
    """Return the first executable of those names, in the given directories before the PATH.

    Raises:
        BrokerMissingError: There is none.
    """
    path = os.pathsep.join(
        [*map(str, directories), os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES]
    )
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    raise BrokerMissingError(f"not installed: {' or '.join(names)}")


#: How many workers of pytest-xdist have ports of their own.
_WORKERS: Final = 16


def free_port() -> int:
    """Return a loopback port that nobody listens on.

    It lies below the range that systems take outgoing ports from. A port from that range may be
    lost to any client while a server restarts, and a client that dials such a port, while nobody
    listens, can even connect to itself. Each worker of pytest-xdist takes from ports of its own, so
    that none takes one whose server, of another worker, is down for a moment.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in random.sample(range(20_000 + worker % _WORKERS, 32_000, _WORKERS), 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise BrokerStartError("no free loopback port between 20000 and 32000")


def unprivileged_user(*names: str) -> str | None:
    """Return the first of the users that exists, for servers that refuse root; None if not root."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return None


def run(
    command: Sequence[str | Path],
    *,
    user: str | None,
    log: Path,
    timeout: float,
    words: bytes = b"",
) -> None:
    """Run a command of preparation to its end: `words` go in, its output goes to the log.

    Raises:
        BrokerStartError: It failed, or took longer than `timeout` seconds.
    """
    with log.open("ab") as output:
        try:
            subprocess.run(
                command,
                input=words,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=timeout,
                cwd=log.parent,
                user=user,
                group=_group(user),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BrokerStartError(f"{command[0]}: {error}\n{tail(log)}") from error


def tail(log: Path, lines: int = 30) -> str:
    """Return the end of a log, or the empty string."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class ProcessTree:
    """One started program and whatever it forked. Not thread-safe.

    It dies with this process, also when this process is killed: a small shell watches a pipe that
    only the death (or `terminate`, `kill`) of this process closes.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=log.parent,
                # Out of reach of the ^C that is meant for the tests.
                start_new_session=True,
                user=user,
                group=_group(user),
            )
        self._owner = os.getpid()
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the started process lives; a paused one does."""
        return self._process.poll() is None

    def signal(self, number: signals.Signals) -> None:
        """Send a signal to the started process and to all its descendants, parents first."""
        if self.is_running:
            for pid in (self.pid, *descendants(self.pid)):
                _send(pid, number)

    def terminate(self, number: signals.Signals, timeout: float) -> None:
        """Ask the started process to stop, and kill the tree if it has not after `timeout`."""
        if self.is_running:
            family = descendants(self.pid)
            _send(self.pid, number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
            _wait_gone(family)
        self._forget()

    def kill(self) -> None:
        """Kill the tree and wait until it is gone. Idempotent; nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        if self.is_running:
            family: list[int] = []
            # A process that forks in this moment has a child that is not in the list, so all are
            # stopped before they are killed: what does not run does not fork.
            while not set(found := descendants(self.pid)) <= set(family):
                family = found
                for pid in (self.pid, *family):
                    _send(pid, signals.SIGSTOP)
            for pid in (self.pid, *family):
                _send(pid, signals.SIGKILL)
            self._process.wait()
            # A restart on the same data must not meet a straggler.
            _wait_gone(family)
        self._forget()

    def _forget(self) -> None:
        """Call the watcher off: the pid may soon belong to somebody else."""
        atexit.unregister(self.kill)
        if self._watcher.stdin is not None and not self._watcher.stdin.closed:
            self._watcher.communicate(b"done\n")


def descendants(pid: int) -> list[int]:
    """Return the living descendants of a process, parents first."""
    children: dict[int, list[int]] = {}
    for child, (parent, is_zombie) in _process_table().items():
        if not is_zombie:
            children.setdefault(parent, []).append(child)
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found[1:]


def _process_table() -> dict[int, tuple[int, bool]]:
    """Return the parent of every process, and whether it is a zombie."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,stat=,ppid="]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in output.splitlines()]
    else:
        rows = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                status = entry.read_text(encoding="utf-8", errors="replace")
            except OSError:  # It ended since the directory was listed.
                continue
            # The name between the parentheses may itself hold spaces and parentheses.
            state, parent, *_ = status[status.rindex(")") + 1 :].split()
            if state == "Z" and _has_threads(entry.parent):
                state = "X"  # The first thread is dead; the others still hold files and ports.
            rows.append([entry.parent.name, state, parent])
    return {int(pid): (int(parent), state.startswith("Z")) for pid, state, parent in rows}


def _has_threads(process: Path) -> bool:
    """Tell whether a process of /proc has threads beside its first one."""
    try:
        return len(os.listdir(process / "task")) > 1
    except OSError:
        return False


def _send(pid: int, number: signals.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _wait_gone(pids: Sequence[int], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while pids and time.monotonic() < deadline:
        table = _process_table()
        # An orphan stays a zombie for ever where process 1 does not reap; it holds nothing.
        if all(table.get(pid, (0, True))[1] for pid in pids):
            return
        time.sleep(0.01)


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid
