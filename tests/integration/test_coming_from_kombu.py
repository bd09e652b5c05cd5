"""The tables in docs/coming-from-kombu.md, against the installed kombu and this package."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kombu_core
from kombu_core import Connection, Exchange, Message, Queue, mixins, patterns, pidbox, simple
from kombu_core.clocks import LamportClock
from kombu_core.message import Envelope

pytest.importorskip("kombu", reason="the tables are about an installed kombu")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from-kombu.md"
ROW = re.compile(r"^\| `(\w+)` \| (the same|renamed|not here) \| (?:`([\w.]+)` )?\| ?(.*?) ?\|$")

#: Names in kombu's modules that are nobody's: of the type checker, of imports that may be missing.
INCIDENTAL = {"TYPE_CHECKING", "IS_PYPY", "BaseExceptionType", "brotli"}


class Row:
    """A line of a table."""

    def __init__(self, name: str, status: str, target: str | None, remark: str) -> None:
        self.name = name
        self.status = status
        self.target = target
        self.remark = remark


def read() -> dict[str, dict[str, Row]]:
    tables: dict[str, dict[str, Row]] = {}
    current: dict[str, Row] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            current = tables.setdefault(line.removeprefix("### "), {})
        elif line.startswith("| `"):
            found = ROW.match(line)
            assert found, f"no row: {line}"
            assert found[1] not in current, f"twice: {line}"
            current[found[1]] = Row(found[1], found[2], found[3], found[4])
    return tables


TABLES = read()


def theirs(path: str) -> Any:
    """Return a module of kombu, or something in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(theirs(module), name)


def public_names(found: Any) -> set[str]:
    """Return what kombu offers there: of a module what it exports and what it defines itself."""
    if not inspect.ismodule(found):
        return {name for name in dir(found) if not name.startswith("_")}
    names = set(getattr(found, "__all__", ()))
    for name, value in vars(found).items():
        if name.startswith("_") or inspect.ismodule(value) or name in INCIDENTAL:
            continue
        home = getattr(value, "__module__", None)
        is_constant = home is None and not callable(value) and name != "annotations"
        if home == found.__name__ or is_constant:
            names.add(name)
    return names


@pytest.mark.parametrize("path", TABLES)
def test_every_public_name_has_a_row_and_no_other(path: str) -> None:
    assert set(TABLES[path]) == public_names(theirs(path))


def test_the_modules_that_programs_import_have_a_table() -> None:
    modules = "connection messaging entity common mixins pools simple pidbox serialization"
    for module in f"{modules} compression exceptions message clocks".split():
        assert f"kombu.{module}" in TABLES
    assert "kombu" in TABLES


@pytest.mark.parametrize("path", TABLES)
def test_a_row_says_where_or_why(path: str) -> None:
    for row in TABLES[path].values():
        if row.status == "not here":
            assert not row.target, f"{row.name} is not here, and there"
            assert row.remark, f"{row.name} is not here: why?"
        else:
            assert row.target, f"{row.name} is here: where?"
            assert row.target.startswith("kombu_core")
        if row.status == "the same":
            assert row.target is not None
            assert row.target.endswith(f".{row.name}")


@pytest.fixture
def samples(token: str) -> Iterator[dict[type, object]]:
    """One of each class whose attributes only instances have."""
    with Connection(f"memory://{token}") as connection:
        channel = connection.channel()
        mailbox = pidbox.Mailbox("m")
        found: list[object] = [
            connection,
            channel,
            connection.Producer(),
            connection.Consumer([Queue("q")]),
            Queue("q"),
            Exchange("x"),
            Message(channel, Envelope(b"", {}, {}), 1),
            connection.SimpleQueue("simple"),
            mailbox,
            mailbox.Node("n"),
            patterns.QoS(lambda *, prefetch_count: None, 1),
            LamportClock(),
            connection.transport.capabilities,
        ]
        yield {type(each): each for each in found}


def resolve(path: str, samples: dict[type, object]) -> object:
    """Follow a dotted path through modules, classes, and instances of them."""
    found: Any = kombu_core
    steps = path.split(".")[1:]
    for number, step in enumerate(steps, start=2):
        if hasattr(found, step):
            found = getattr(found, step)
        elif inspect.isclass(found) and found in samples:
            found = getattr(samples[found], step)
        elif inspect.isclass(found) and step in found.__annotations__:
            found = found.__annotations__[step]
        else:
            found = importlib.import_module(".".join(path.split(".")[:number]))
    return found


@pytest.mark.parametrize("path", TABLES)
def test_what_is_here_is_there(path: str, samples: dict[type, object]) -> None:
    for row in TABLES[path].values():
        if row.target:
            resolve(row.target, samples)


def test_arguments_of_the_entry_points_are_kombus() -> None:
    common, their_simple = theirs("kombu.common"), theirs("kombu.simple")
    their_mixins, their_pidbox = theirs("kombu.mixins"), theirs("kombu.pidbox")
    pairs: list[tuple[Any, Any]] = [
        (common.eventloop, patterns.eventloop),
        (common.drain_consumer, patterns.drain_consumer),
        (common.send_reply, patterns.send_reply),
        (common.insured, patterns.insured),
        (common.maybe_declare, patterns.maybe_declare),
        (common.Broadcast.__init__, patterns.Broadcast.__init__),
        (common.QoS.__init__, patterns.QoS.__init__),
        (their_simple.SimpleQueue.__init__, simple.SimpleQueue.__init__),
        (their_simple.SimpleQueue.get, simple.SimpleQueue.get),
        (their_simple.SimpleQueue.put, simple.SimpleQueue.put),
        (their_mixins.ConsumerMixin.consume, mixins.ConsumerMixin.consume),
        (their_pidbox.Mailbox.__init__, pidbox.Mailbox.__init__),
        (their_pidbox.Mailbox.call, pidbox.Mailbox.call),
        (their_pidbox.Mailbox.multi_call, pidbox.Mailbox.multi_call),
        (their_pidbox.Mailbox._broadcast, pidbox.Mailbox.broadcast),
        (their_pidbox.Node.__init__, pidbox.Node.__init__),
        (their_pidbox.Node.Consumer, pidbox.Node.Consumer),
    ]
    for original, ours in pairs:
        assert positional(ours)[: len(positional(original))] == positional(original), ours


def positional(function: Any) -> list[str]:
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
