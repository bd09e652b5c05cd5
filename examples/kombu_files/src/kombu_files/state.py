"""The files: one with the state of all queues, and one with the content of each message.

Whoever changes the state has the lock, writes all of it beside the old one, and renames it to its
place: so a change is there as a whole or not at all. A content is on the disk before the state
names it. What the state does not name, as of a writer that was killed, goes with the next change.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from kombu_core.exceptions import ConnectionLostError, OperationalError, map_errors

#: Longest wait for the other processes that use the directory (seconds).
PATIENCE: Final = 10.0
#: A state as it begins.
NOTHING: Final = "[0, {}, {}, []]"

# Nobody forks while a thread has the lock of a directory: the child would keep it for ever, if its
# parent is killed before giving it back.
_forks: Final = threading.RLock()
os.register_at_fork(
    before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_forks.release
)

# Around what touches files, and no more: errors of ours, as SessionLostError, are OSErrors too.
_translated: Final = map_errors({OSError: OperationalError})


class Message(NamedTuple):
    """A message without its content; those of a queue sort by who is next."""

    queue: str
    negative_priority: int
    due: float
    number: int
    expires: float
    #: Bytes of the body.
    size: int
    deliveries: int = 0
    #: The session that claimed it.
    owner: str | None = None


class State:
    """What a directory holds, to be read and changed while it is `locked`. Any thread may."""

    #: The time (seconds since 1970). It never goes back, and never shows the same twice.
    now: float
    #: The last version of a document, or number of a message. None is given twice.
    number: int
    #: By key: version, and value in hexadecimal digits.
    documents: dict[str, tuple[int, str]]
    #: By number, as text.
    messages: dict[str, Message]
    #: By name: end of the lease; 0 if it ran out, and nobody has ended the session yet.
    sessions: dict[str, float]

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _flush(directory.parent)
        self._directory, self._path = directory, directory / "state"
        self._path.touch()
        #: Once it is set, nobody may use this any more.
        self.closed = threading.Event()
        self._seen: str | None = None

    @contextmanager
    def locked(self, *, durable: bool = False) -> Iterator[State]:
        """Have the lock, and the state up to date; what is changed in it is stored at the end.

        Args:
            durable: A change has to survive a power failure, not only the death of all processes.
        """
        with _forks, _acquire(self._directory / "lock"):
            if self.closed.is_set():
                raise ConnectionLostError(f"{self._directory} was closed")
            if self._seen != self.look():
                self._load()
            self._seen = None  # If this fails, it is loaded again.
            self.now = max(self.now + 1e-6, time.time())
            yield self
            self._store(durable)

    @_translated
    def look(self) -> str:
        """Return a text that is another one after each change. Needs no lock."""
        with open(self._path) as file:
            return file.readline()

    @_translated
    def write_content(self, number: int, content: bytes) -> None:
        """Have the content of a new message on the disk."""
        path = self._directory / str(number)
        path.write_bytes(content)
        _flush(path)

    @_translated
    def read_content(self, number: int) -> bytes:
        """Return the content of a message."""
        return (self._directory / str(number)).read_bytes()

    @_translated
    def _load(self) -> None:
        clock, _, self._text = self._path.read_text().partition("\n")
        self.now = float(clock or 0)
        self.number, self.documents, self.sessions, rows = json.loads(self._text or NOTHING)
        self.messages = {str(message.number): message for message in map(Message._make, rows)}

    @_translated
    def _store(self, durable: bool) -> None:
        text = json.dumps([self.number, self.documents, self.sessions, [*self.messages.values()]])
        if text != self._text:
            beside = self._path.with_suffix(".new")
            beside.write_text(f"{self.now}\n{text}")
            _flush(beside)
            beside.rename(self._path)
            if durable:
                _flush(self._directory)
            for name in os.listdir(self._directory):
                if name.isdecimal() and name not in self.messages:
                    os.unlink(self._directory / name)
        self._seen, self._text = self.look(), text


def _flush(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@_translated
def _acquire(path: Path) -> IO[bytes]:
    """Return a file whose lock this is the only one to have, until it is closed."""
    lock = open(path, "ab")  # noqa: SIM115  (whoever has it closes it)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        time.sleep(0.0005)
    lock.close()
    raise OperationalError(f"Another process has had the lock {path} for {PATIENCE} seconds")
