"""Tables that all processes of a host share through one file, which is a history of changes.

The file is appended to under a lock, and replayed by every process. A line of it holds all changes
of one operation, so they are there as a whole or not at all. A line that a killed writer did not
finish has a wrong checksum; nobody was told that it was stored, and the next one who has the lock
cuts it off. When the file has doubled, it is written anew beside itself and renamed to its place.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from kombu_core.exceptions import ConnectionLostError, OperationalError, map_errors

#: Longest wait for the other processes that use the directory (seconds).
PATIENCE: Final = 10.0
#: A file that is shorter is not written anew (bytes).
SMALL: Final = 1 << 20
Tables = dict[str, dict[str, Any]]
#: Table, key and new value; None deletes.
Change = tuple[str, str, Any]

# Nobody forks while a thread has the lock of a directory: the child would keep it for ever, if its
# parent is killed before giving it back.
_forks: Final = threading.RLock()
os.register_at_fork(
    before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_forks.release
)

# Around what touches files, and no more: errors of ours, as SessionLostError, are OSErrors too.
_translated = map_errors({OSError: OperationalError})


class Journal:
    """A directory with a journal, a lock, and the bells of who waits. Any thread may use it."""

    def __init__(self, directory: Path) -> None:
        self.bells = directory / "bells"
        self.bells.mkdir(parents=True, exist_ok=True)
        self.is_closed = False
        self._path = directory / "journal"
        self._file = -1
        self._forget()

    def _forget(self) -> None:
        """Begin anew with nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._end, self._compact_at = -1, 0, SMALL
        self._changes: list[Change] = []
        self.tables: Tables = defaultdict(dict)
        #: The clock of the store, which never goes back, and the last number that it gave.
        self.now, self._number = 0.0, 0

    @contextmanager
    def locked(self, *, rings: bool = False) -> Iterator[Tables]:
        """Hold the lock, with the tables up to date; what was `put` is stored at the end.

        Args:
            rings: Wake who waits, if there was anything.
        """
        with _forks, _acquire(self._path.with_name("lock")):
            try:
                if self.is_closed:
                    raise ConnectionLostError(f"{self._path} was closed")
                self._catch_up()
                self.now = max(self.now, time.time())
                yield self.tables
                if self._changes:
                    self._append()
                    if rings:
                        self.ring()
            except BaseException:
                if self._changes:
                    self._forget()  # They are in the tables, and not in the file.
                raise

    def number(self) -> int:
        """Return a number that was never returned before, to any process."""
        self._number += 1
        return self._number

    def put(self, table: str, key: str, value: Any) -> None:
        """Set a value, or delete it by None."""
        self._changes.append((table, key, value))
        self._apply(table, key, value)

    def _apply(self, table: str, key: str, value: Any) -> None:
        self.tables[table][key] = value
        if value is None:
            del self.tables[table][key]

    @_translated
    def _catch_up(self) -> None:
        """Apply what others appended."""
        if self._file < 0 or not os.path.samestat(os.stat(self._path), os.fstat(self._file)):
            self._forget()
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            self._compact_at = max(SMALL, 2 * os.fstat(self._file).st_size)
            for directory in (self._path.parent, self._path.parent.parent):
                # Who made or renamed it may have been killed before its name was on the disk.
                entries = os.open(directory, os.O_RDONLY)
                os.fsync(entries)
                os.close(entries)
        with open(self._file, "rb", closefd=False) as file:
            file.seek(self._end)
            for line in file:
                if line != _line(line[9:-1]):
                    os.ftruncate(self._file, self._end)
                    break
                now, self._number, changes = json.loads(line[9:])
                self.now = max(self.now, now)
                for change in changes:
                    self._apply(*change)
                self._end += len(line)
        if self._end > self._compact_at:
            self._compact()

    def _compact(self) -> None:
        rows = [(t, k, v) for t, table in self.tables.items() for k, v in table.items()]
        beside = self._path.with_suffix(".new")
        with open(beside, "wb") as file:
            file.write(self._record(rows))
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, self._path)
        self._catch_up()

    @_translated
    def _append(self) -> None:
        line = self._record(self._changes)
        while line:
            written = os.pwrite(self._file, line, self._end)
            self._end, line = self._end + written, line[written:]
        # Without the rest, after a power failure, messages come again; but none is lost.
        if any(t == "documents" or (t == "contents" and v) for t, _, v in self._changes):
            os.fsync(self._file)
        self._changes = []

    def _record(self, changes: list[Change]) -> bytes:
        return _line(json.dumps([self.now, self._number, changes]).encode())

    @_translated
    def ring(self) -> None:
        """Wake who waits, in any process: each holds a FIFO open."""
        for bell in self.bells.iterdir():
            try:
                file = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # Nobody does, because it was killed.
                bell.unlink(missing_ok=True)
                continue
            with suppress(BlockingIOError):  # It rings already.
                os.write(file, b"!")
            os.close(file)

    def close(self) -> None:
        """Let go of the file, and wake who waits. Idempotent."""
        with suppress(OperationalError), self.locked():  # If it was not closed before.
            self.is_closed = True
            self._forget()
            self.ring()


def _line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


@_translated
def _acquire(path: Path) -> IO[bytes]:
    """Return a file whose lock this is the only one to have, until it is closed."""
    lock = open(path, "ab")  # noqa: SIM115  (whoever has it closes it)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise
        time.sleep(0.0005)
