"""A program that works on a directory and is killed somewhere in its file operations.

    python crashing.py DIRECTORY

For each number it forks a child, which works in DIRECTORY/calls NUMBER and kills itself before its
operation of that number; the last such child lives. Then it forks children that the system kills in
the middle of a write, in DIRECTORY/bytes NUMBER: when a file would become larger than that. A line
for each tells its directory and how many steps the child finished.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from operator import methodcaller
from pathlib import Path
from types import FrameType
from typing import Any, Final

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Put, Want
from kombu_files import state
from kombu_files.store import FilesStore

#: Whose calls of functions that are not written in Python may be operations on files.
CALLERS: Final = (state.__file__, "pathlib")
READS: Final = {"close", "flock", "listdir", "open", "read", "readline"}
CHANGES: Final = {"mkdir", "rename", "unlink", "utime", "write"}
#: Each step with what is there after it: the document, and the bodies in two queues.
Step = tuple[Callable[[FilesStore], object], tuple[bytes, list[str], list[str]]]


def kill_before(fatal: int) -> None:
    """Have this process killed before its operation of that number."""
    left = fatal

    def watch(frame: FrameType, event: str, called: Any) -> None:
        nonlocal left
        is_operation = event == "c_call" and called.__name__ in READS | CHANGES
        if is_operation and any(caller in frame.f_code.co_filename for caller in CALLERS):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


def kill_in_write(size: int) -> None:
    """Have this process killed when it has written so many bytes of a file, and has more."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


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


def work(directory: Path, acknowledgements: int) -> None:
    """Do all steps, as far as one gets, and acknowledge each by a byte."""
    store = FilesStore(directory)
    for step, _ in steps():
        step(store)
        os.write(acknowledgements, b".")


def run_child(directory: Path, arrange: Callable[[], None]) -> int:
    """Work in a child process, and return how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            vars(os).update(fsync=lambda file: None)  # A killed process has no need of it.
            arrange()
            work(directory, writing)
            code = 0
        except BaseException:  # noqa: BLE001  (nothing may go on in the child)
            traceback.print_exc()
        finally:
            sys.setprofile(None)
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    print(f"{len(os.read(reading, 100))} {directory.name}", flush=True)
    os.close(reading)
    return os.waitstatus_to_exitcode(status)


def main(base: Path) -> None:
    """Run the children, one after the other."""
    code = -signal.SIGKILL
    fatal = 0
    while code == -signal.SIGKILL:
        fatal += 1
        code = run_child(base / f"calls {fatal}", partial(kill_before, fatal))
    if code:
        sys.exit(code)
    for size in range(0, 5000, 7):
        code = run_child(base / f"bytes {size}", partial(kill_in_write, size))
        if code != -signal.SIGXFSZ:
            sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
