"""A program that works on a directory and is killed between two of its file operations.

    python crashing.py DIRECTORY

For each number it forks a child, which works in DIRECTORY/number and kills itself before its
operation of that number, or in the middle of it if it writes. A line for each tells how many steps
the child finished. The last child lives.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any, Final

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Put, Want
from kombu_files import journal
from kombu_files.journal import Journal
from kombu_files.store import FilesStore

OPERATIONS: Final = {"close", "fsync", "ftruncate", "open", "pwrite", "rename", "stat"}
#: Each step with what is there after it: the document, and the bodies in two queues.
Step = tuple[Callable[[FilesStore], object], tuple[bytes, list[str], list[str]]]


class FaultyOS:
    """The module `os`, which kills this process before or in its fatal operation."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def __getattr__(self, name: str) -> Any:
        operation = getattr(os, name)
        if name not in OPERATIONS:
            return operation

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count()
            if name == "fsync":  # Which a killed process has no need of; so it costs no time.
                return None
            if name == "pwrite":
                if self._left == 1:
                    file, data, offset = args
                    os.pwrite(file, data[: len(data) // 2], offset)
                self.count()
            return operation(*args, **kwargs)

        return counted

    def open_file(self, *args: Any, **kwargs: Any) -> Any:
        """Open a file by the builtin function, as for the journal that is written anew."""
        self.count()
        return open(*args, **kwargs)

    def count(self) -> None:
        """Come nearer to the end."""
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def put(queue: str, body: str) -> Put:
    return Put(queue, Envelope(body.encode(), {}, {}))


def handle_one(store: FilesStore) -> None:
    """Consume, transform, produce: in one step."""
    (claimed,) = store.claim([Want("in", 1)], "worker", 1)
    assert isinstance(claimed.content, Envelope)
    produced = put("out", f"done {claimed.content.body.decode()}")
    store.commit(Batch([produced], [claimed.claim], session="worker"))


def steps() -> Iterator[Step]:
    """Yield what the child does, and what is there when it is done."""
    waiting: list[str] = []
    done: list[str] = []
    yield methodcaller("begin", "worker", 3600.0), (b"", [], [])
    for number in range(2):
        document = b"%d" % number
        yield methodcaller("write", {"d": document}, ()), (document, waiting.copy(), done.copy())
        bodies = [f"{number}a", f"{number}b"]
        waiting += bodies
        batch = Batch([put("in", body) for body in bodies])
        yield methodcaller("commit", batch), (document, waiting.copy(), done.copy())
        done.append(f"done {waiting.pop(0)}")
        yield handle_one, (document, waiting.copy(), done.copy())


def work(directory: Path, fatal: int, acknowledgements: int) -> None:
    """Do all steps, as far as one gets, and acknowledge each by a byte."""
    faulty = FaultyOS(fatal)
    # SMALL: it is written anew a few times.
    vars(journal).update(os=faulty, open=faulty.open_file, SMALL=500)
    store = FilesStore(Journal(directory))
    for step, _ in steps():
        step(store)
        os.write(acknowledgements, b".")


def main(base: Path) -> None:
    """Run the children, one after the other."""
    for fatal in range(1, 10_000):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                work(base / str(fatal), fatal, writing)
                code = 0
            except BaseException:  # noqa: BLE001  (nothing may go on in the child)
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        print(fatal, len(os.read(reading, 100)), flush=True)
        os.close(reading)
        if status != signal.SIGKILL:
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
