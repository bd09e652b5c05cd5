"""A process that is killed between any two file operations, or in one, loses nothing."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claim, Put, Want
from kombu_files.journal import Journal
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
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    expected = [(b"", [], []), *(after for _, after in runpy.run_path(str(PROGRAM))["steps"]())]
    assert kills[-1][1] == len(expected) - 1
    assert len(kills) > 50
    rewritten = 0
    for fatal, finished in kills:
        store = FilesStore(Journal(tmp_path / str(fatal)))
        store.end("worker")
        found = (store.read(["d"])[0].value, bodies(store, "in"), bodies(store, "out"))
        # The step at which it died happened as a whole or not at all.
        assert found in expected[finished : finished + 2], f"killed before operation {fatal}"
        store.commit(Batch([Put("in", Envelope(b"more", {}, {}))]))
        assert bodies(store, "in") == [*found[1], "more"]
        store.close()
        rewritten += (tmp_path / str(fatal) / "journal.new").exists()
    assert rewritten, "none was killed while the journal was written anew"


def test_a_journal_may_end_anywhere_in_what_was_promised_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # It costs time, and shows in no file.
    store = FilesStore(Journal(tmp_path / "whole"))
    store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    first = (tmp_path / "whole" / "journal").read_bytes()
    store.commit(Batch([Put("q", Envelope(b"2", {}, {}))]))
    whole = (tmp_path / "whole" / "journal").read_bytes()
    store.close()
    (tmp_path / "cut").mkdir()
    for garbage in (b"", b"\0" * 40, b"\r{"):
        for end in range(len(first), len(whole), 5):
            (tmp_path / "cut" / "journal").write_bytes(whole[:end] + garbage)
            store = FilesStore(Journal(tmp_path / "cut"))
            assert bodies(store, "q") == ["1"]
            store.commit(Batch([Put("q", Envelope(b"3", {}, {}))]))
            store.close()
            store = FilesStore(Journal(tmp_path / "cut"))
            assert bodies(store, "q") == ["1", "3"]
            store.close()


def test_a_dead_processes_bell_is_taken_down(tmp_path: Path) -> None:
    program = f"""
import os, signal, threading
from pathlib import Path
from kombu_files.journal import Journal
from kombu_files.store import FilesStore
store = FilesStore(Journal(Path({str(tmp_path)!r})))
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
store.wait(["q"], 60.0)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    store = FilesStore(Journal(tmp_path))
    assert len(list((tmp_path / "bells").iterdir())) == 1
    store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    assert list((tmp_path / "bells").iterdir()) == []
    store.close()


def test_a_claim_of_a_killed_process_can_be_settled_by_nobody_else(tmp_path: Path) -> None:
    store = FilesStore(Journal(tmp_path))
    store.begin("me", 60.0)
    store.commit(Batch([Put("q", Envelope(b"1", {}, {}))]))
    (claimed,) = store.claim([Want("q", 1)], "me", 1)
    store.end("me")
    lost = store.commit(Batch(acks=[claimed.claim], session="me")).lost
    assert lost == [Claim("q", claimed.claim.id)]
    assert bodies(store, "q") == ["1"]
    store.close()
