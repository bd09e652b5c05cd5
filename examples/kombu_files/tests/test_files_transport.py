"""What is of this transport alone: its URL, its directory and its size."""

from __future__ import annotations

import ast
import fcntl
import io
import shutil
import tokenize
from pathlib import Path

import pytest

from kombu_core import Connection
from kombu_core.exceptions import ConfigurationError, ConnectError, OperationalError
from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Put, Want
from kombu_files import state
from kombu_files.store import FilesStore

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def put(store: FilesStore, *texts: str) -> None:
    store.commit(Batch([Put("q", Envelope(text.encode(), {}, {})) for text in texts]))


@pytest.mark.parametrize(
    "url", ["files://", "files:///", "files://elsewhere/tmp", "files://:secret@/tmp/q"]
)
def test_the_url_is_the_path_of_a_directory_and_no_more(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Connection(url).connect()
    assert "secret" not in str(caught.value)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option speed \(known: lease\)"):
        Connection("files:///tmp/q?speed=11").connect()


def test_a_directory_that_cannot_be_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConnectError):
        Connection(f"files://{tmp_path}/file/queues").connect()


def test_nobody_waits_for_the_lock_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "PATIENCE", 0.05)
    store = FilesStore(tmp_path)
    with open(tmp_path / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OperationalError):
            put(store, "1")
    put(store, "2")
    assert store.count("q").ready == 1
    store.close()


def test_the_files_are_no_more_than_what_is_stored(tmp_path: Path) -> None:
    stores = [FilesStore(tmp_path) for _ in range(2)]
    stores[0].begin("me", 60.0)
    put(stores[1], "stays")
    version = stores[1].write({"gone": b""}, ()).versions["gone"]
    stores[1].write({"gone": None}, ())
    for number in range(20):
        put(stores[number % 2], str(number))
        (_, claimed) = stores[0].claim([Want("q", 2)], "me", 2)
        stores[0].commit(Batch(acks=[claimed.claim], session="me"))
        stores[0].end("me")
        stores[0].begin("me", 60.0)
    (content,) = {path.name for path in tmp_path.iterdir()} - {"lock", "state"}
    assert b"stays" in (tmp_path / content).read_bytes()
    assert (tmp_path / "state").stat().st_size < 200
    assert [store.count("q") for store in stores] == [(1, 0, 0)] * 2
    # A number is not given twice, though the state does not name it any more.
    assert stores[0].write({"gone": b""}, ()).versions["gone"] > version
    for store in stores:
        store.close()


@pytest.mark.parametrize("operation", ["fsync", "rename"])
def test_a_failed_write_never_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    store = FilesStore(tmp_path)
    put(store, "1")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OperationalError, match="No space"):
        patch.setattr(f"os.{operation}", full)
        put(store, "2")
    assert store.count("q").ready == 1
    put(store, "3")
    assert store.count("q").ready == 2
    store.close()


def test_a_directory_that_was_taken_away_is_an_error_of_ours(tmp_path: Path) -> None:
    store = FilesStore(tmp_path / "queues")
    put(store, "1")
    shutil.rmtree(tmp_path / "queues")
    for use in (lambda: put(store, "2"), lambda: store.wait(["q"], 0.1), lambda: store.read(["d"])):
        with pytest.raises(OperationalError):
            use()
    store.close()


def test_it_has_at_most_300_lines_of_code() -> None:
    """Lines with code on them: no blank ones, no comments, no docstrings."""
    count = 0
    for path in Path(state.__file__).parent.glob("*.py"):
        text = path.read_text()
        with_code = set[int]()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in NO_CODE:
                with_code.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                with_code.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
        count += len(with_code)
    assert 200 < count <= 300
