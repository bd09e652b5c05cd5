"""A process that is killed between any two file operations, or in one, loses nothing."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claim, Put, Want
from kombu_files.store import FilesStore

PROGRAM = Path(__file__).with_name("crashing.py")


def bodies(store: FilesStore, queue: str) -> list[str]:
    """Claim all of a queue, and give it back."""
    store.begin("reader", 60.0)
    found = store.claim([Want(queue, 100)], "reader", 100)
    store.end("reader")
    return [item.content.body.decode() for item in found if isinstance(item.content, Envelope)]


def test_a_killed_process_loses_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    deaths = [line.split(" ", 1) for line in done.stdout.splitlines()]
    expected = [(b"", [], []), *(after for _, after in runpy.run_path(str(PROGRAM))["steps"]())]
    assert sum(name.startswith("calls") for _, name in deaths) > 100
    assert sum(name.startswith("bytes") for _, name in deaths) > 30
    assert int(deaths[-1][0]) == len(expected) - 1
    unfinished = unnamed = 0
    for finished, name in deaths:
        directory = tmp_path / name
        unfinished += (directory / "state.new").exists()
        contents = [path for path in directory.glob("*") if path.name.isdecimal()]
        store = FilesStore(directory)
        store.end("worker")
        found = (store.read(["d"])[0].value, bodies(store, "in"), bodies(store, "out"))
        # The step at which it died happened as a whole or not at all.
        assert found in expected[int(finished) : int(finished) + 2], name
        unnamed += len(contents) > len(found[1]) + len(found[2])
        store.commit(Batch([Put("in", Envelope(b"more", {}, {}))]))
        assert bodies(store, "in") == [*found[1], "more"]
        store.purge("in")
        store.purge("out")
        assert sorted(path.name for path in directory.iterdir()) == ["lock", "state"]
        store.close()
    assert unfinished, "none was killed between writing the state and renaming it"
    assert unnamed, "none was killed between writing a content and naming it in the state"


def test_who_is_killed_while_it_has_the_lock_keeps_it_from_nobody(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from kombu_files.state import State
with State(Path({str(tmp_path)!r})).locked():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    store = FilesStore(tmp_path)
    store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    assert bodies(store, "q") == ["1"]
    store.close()


def test_a_claim_of_a_killed_process_can_be_settled_by_nobody_else(tmp_path: Path) -> None:
    store = FilesStore(tmp_path)
    store.begin("me", 60.0)
    store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    (claimed,) = store.claim([Want("q", 1)], "me", 1)
    store.end("me")
    lost = store.commit(Batch(acks=[claimed.claim], session="me")).lost
    assert lost == [Claim("q", claimed.claim.id)]
    assert bodies(store, "q") == ["1"]
    store.close()
