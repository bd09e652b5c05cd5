"""The outbox and its relay, killed anywhere; and the inbox at the other end."""

from __future__ import annotations

import logging
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import ConfigurationError
from kombu_core.message import Message
from kombu_core.testing.brokers import MariaDBServer, PostgresServer, PrivateServer, RedisServer
from kombu_core.testing.harness import until
from kombu_core.url import parse
from kombu_sqlalchemy import Inbox, Outbox, relay
from kombu_sqlalchemy.__main__ import main
from kombu_sqlalchemy.engines import split_url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    found = create_engine(split_url(parse(url, opaque=True))[0])
    yield found
    found.dispose()


@pytest.fixture
def source(url: str, options: dict[str, Any]) -> Iterator[Connection]:
    with Connection(url, transport_options=options) as connection:
        yield connection


@pytest.fixture
def target(token: str) -> Iterator[Connection]:
    """Another broker."""
    with Connection(f"memory://{token}") as connection:
        Queue("out", Exchange("x", "topic"), routing_key="order.#")(connection).declare()
        yield connection


def received(connection: Connection, queue: str = "out") -> list[Message]:
    found = []
    while (message := Queue(queue)(connection).get(no_ack=True)) is not None:
        found.append(message)
    return found


class TestOutbox:
    def test_what_is_committed_is_moved(
        self, source: Connection, target: Connection, engine: Engine
    ) -> None:
        outbox = Outbox(source)
        with Session(engine) as session:
            outbox.publish(session, {"n": 0}, "order.new", exchange="x")
            session.rollback()
            ids = [
                outbox.publish(session, {"n": n}, "order.new", exchange="x", headers={"h": n})
                for n in range(1, 8)
            ]
            session.commit()
        assert relay(source, target, until_empty=True, batch=3) == 7
        found = received(target)
        assert [message.payload["n"] for message in found] == list(range(1, 8))
        assert [message.properties.get("message_id") for message in found] == ids
        assert [message.headers for message in found] == [{"h": n} for n in range(1, 8)]
        assert found[0].delivery_info["routing_key"] == "order.new"
        assert relay(source, target, until_empty=True) == 0

    def test_a_time_to_live_begins_at_the_target(
        self, source: Connection, target: Connection, engine: Engine
    ) -> None:
        outbox = Outbox(source)
        with engine.begin() as mine:
            outbox.publish(mine, "a", "order", exchange="x", expiration=1, message_id="me")
        time.sleep(1.1)
        assert relay(source, target, until_empty=True) == 1
        (message,) = received(target)
        assert message.properties.get("expiration") == "1000"
        assert message.properties.get("message_id") == "me"

    def test_what_the_target_does_not_take_is_kept_apart(
        self, source: Connection, target: Connection, engine: Engine
    ) -> None:
        outbox = Outbox(source, "mine")
        with engine.begin() as mine:
            outbox.publish(mine, "good", "order.1", exchange="x")
            outbox.publish(mine, "bad", "order.2", exchange="nowhere")
            outbox.publish(mine, "good too", "order.3", exchange="x")
        assert relay(source, target, "mine", until_empty=True) == 2
        assert [message.payload for message in received(target)] == ["good", "good too"]
        (failed,) = received(source, "mine.failed")
        assert failed.payload == "bad"
        assert "NotFoundError" in failed.headers["x-outbox-reason"]

    def test_what_no_queue_of_the_target_wants_is_kept_apart_unless_that_is_allowed(
        self, source: Connection, target: Connection, engine: Engine
    ) -> None:
        outbox = Outbox(source, "lone")
        with engine.begin() as mine:
            outbox.publish(mine, "mistyped", "no such queue")
            outbox.publish(mine, "an event", "no such queue", mandatory=False)
            outbox.publish(mine, "good", "order.1", exchange="x")
        assert relay(source, target, "lone", until_empty=True) == 2
        assert [message.payload for message in received(target)] == ["good"]
        (failed,) = received(source, "lone.failed")
        assert failed.payload == "mistyped"
        assert "UnroutableError" in failed.headers["x-outbox-reason"]

    def test_it_runs_until_it_is_stopped(
        self, source: Connection, target: Connection, engine: Engine
    ) -> None:
        outbox, stop = Outbox(source), threading.Event()
        thread = threading.Thread(target=relay, args=(source, target), kwargs={"stop": stop})
        thread.start()
        for n in range(3):
            with engine.begin() as mine:
                outbox.publish(mine, n, "order", exchange="x")
            assert [m.payload for m in until(partial(received, target), "it is moved")] == [n]
        stop.set()
        thread.join()


@pytest.mark.broker("redis")
def test_a_relay_that_is_killed_loses_nothing(
    url: str, options: dict[str, Any], source: Connection, engine: Engine
) -> None:
    """Nor does the target, which is killed and comes back."""
    outbox = Outbox(source)
    with RedisServer(appendonly="always") as redis:
        with Connection(redis.url) as target:
            Queue("out")(target).declare()
        mine = f"{url}?kombu_prefix={options['prefix']}&kombu_lease=1"
        command = [sys.executable, "-m", "kombu_sqlalchemy", "relay", mine, redis.url]
        total, ids = 0, set()
        for _ in range(3):
            with engine.begin() as connection:
                for _ in range(100):
                    ids.add(outbox.publish(connection, total, "out"))
                    total += 1
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                time.sleep(random.uniform(0.5, 1.0))  # The moment of death.
                process.kill()
        redis.kill()
        with _running(command) as process:
            lines = process.stderr
            assert lines is not None
            until(lambda: b"Moving" in lines.readline(), "its beginning", 30)
            redis.start()
            counted = until(lambda: _drained(url, options), "all is moved", 30)
            assert counted
            process.terminate()
            assert process.wait(10) == 0
        with Connection(redis.url) as target:
            found = [message.properties.get("message_id") for message in received(target)]
    assert set(found) == ids
    assert len(found) < 2 * total


@pytest.mark.parametrize(
    "server_class",
    [
        pytest.param(PostgresServer, marks=pytest.mark.broker("postgres")),
        pytest.param(MariaDBServer, marks=pytest.mark.broker("mariadb")),
    ],
)
def test_a_relay_survives_the_database(
    server_class: type[PrivateServer], target: Connection
) -> None:
    stop = threading.Event()
    with server_class() as server:
        url = f"sqlalchemy+{server.url}"
        engine = create_engine(split_url(parse(url, opaque=True))[0])
        with Connection(url, transport_options={"create_tables": True, "lease": 1}) as source:
            Outbox(source)
            thread = threading.Thread(target=relay, args=(source, target), kwargs={"stop": stop})
            thread.start()
            try:
                for word in ("before", "after"):
                    with Connection(url) as other, engine.begin() as mine:
                        Outbox(other).publish(mine, word, "order", exchange="x")
                    (found,) = until(partial(received, target), "it is moved", 20)
                    assert found.payload == word
                    engine.dispose()
                    server.kill()
                    server.start()
            finally:
                stop.set()
                thread.join()
        engine.dispose()


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _drained(url: str, options: dict[str, Any]) -> bool:
    with Connection(url, transport_options=options) as connection:
        transport: Any = connection.transport
        return tuple(transport.store.count("kombu.outbox")) == (0, 0, 0)


def test_the_programs_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL))
    assert "handle_once" in program
    (tmp_path / "program.py").write_text(program + _AFTER_THEM, "utf-8")
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, timeout=60)


#: What they have left; then a message whose effect is there, one that its handler cannot read, one
#: that no queue wants, and one that comes twice.
_AFTER_THEM: Final = """
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from kombu_core.exceptions import UnroutableError


def count(name):
    return Queue(name)(connection).queue_declare(passive=True).message_count


def invoices():
    with Session(engine) as session:
        return sorted(session.scalars(select(Invoice.order)))


def drain(handler):
    with connection.Consumer([orders], callbacks=[handler]):
        connection.drain_events(timeout=5)


def fails(kind, call, *arguments):
    try:
        call(*arguments)
    except kind:
        return True
    return False


assert (invoices(), count("orders"), count("kombu.outbox")) == ([17], 0, 1)

for body, kind in (({"order": 17}, IntegrityError), ({}, KeyError)):
    producer.publish(body, "orders")
    assert fails(kind, drain, handle)
assert (count("orders"), count("orders.failed")) == (0, 2)

with Session(engine) as session, joined(connection, session):
    assert fails(UnroutableError, lambda: producer.publish(1, "nowhere", mandatory=True))

for _ in range(2):
    producer.publish({"order": 19}, "orders", message_id="one")
    drain(handle_once)
assert (invoices(), count("orders")) == ([17, 19], 0)
connection.release()
"""


class TestInbox:
    def test_a_message_is_new_once(self, source: Connection, engine: Engine, options: Any) -> None:
        source.connect()
        inbox = Inbox("billing", prefix=options["prefix"])
        other = Inbox("shipping", prefix=options["prefix"])
        with engine.begin() as mine:
            assert inbox.is_new(mine, "a")
            mine.rollback()
        for is_new in (True, False):
            with engine.begin() as mine:
                assert inbox.is_new(mine, "a") is is_new
                assert other.is_new(mine, "a") is is_new
        with Session(engine) as session:
            assert not inbox.is_new(session, "a")
            assert inbox.forget(session, 60) == 0
            time.sleep(0.02)
            assert inbox.forget(session, 0.01) == 1
            assert inbox.is_new(session, "a")
            assert not other.is_new(session, "a")

    def test_a_message_without_an_id(
        self, source: Connection, engine: Engine, options: Any
    ) -> None:
        Queue("q")(source).declare()
        source.Producer().publish("x", "q")
        message = Queue("q")(source).get()
        assert message is not None
        inbox = Inbox("billing", prefix=options["prefix"])
        with engine.begin() as mine, pytest.raises(ConfigurationError, match="message_id"):
            inbox.is_new(mine, message)

    def test_what_is_no_transaction_is_named(self, engine: Engine) -> None:
        with pytest.raises(ConfigurationError, match="not Engine"):
            Inbox("billing").is_new(engine, "a")  # type: ignore[arg-type]  # as some call it

    def test_a_table_that_is_missing_is_named(self, engine: Engine) -> None:
        inbox = Inbox("billing", prefix="none_")
        for use in (partial(inbox.is_new, message="a"), partial(inbox.forget, older_than=1)):
            with engine.begin() as mine, pytest.raises(ConfigurationError, match="none_handled is"):
                use(mine)

    def test_both_ends(
        self, source: Connection, target: Connection, engine: Engine, options: Any
    ) -> None:
        """Moved twice, handled once."""
        outbox = Outbox(source)
        inbox = Inbox("x", prefix=options["prefix"])
        for _ in range(2):
            with engine.begin() as mine:
                outbox.publish(mine, "order", "order", exchange="x", message_id="17")
        relay(source, target, until_empty=True)
        handled = []
        for message in received(target):
            with engine.begin() as mine:
                if inbox.is_new(mine, message):
                    handled.append(message.payload)
        assert handled == ["order"]


class TestCommandLine:
    def test_tables_and_a_relay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Connection, token: str
    ) -> None:
        url = f"sqlalchemy+sqlite:///{tmp_path}/x.db"
        monkeypatch.setenv("MINE", url)
        assert main(["create-tables", "env:MINE"]) == 0
        engine = create_engine(f"sqlite:///{tmp_path}/x.db")
        with Connection(url) as source:
            outbox = Outbox(source)
            with engine.begin() as mine:
                outbox.publish(mine, "x", "order", exchange="x")
        engine.dispose()
        assert main(["relay", "env:MINE", f"memory://{token}", "--until-empty"]) == 0
        assert [message.payload for message in received(target)] == ["x"]

    def test_what_cannot_work_says_why(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["create-tables", "sqlalchemy+sqlite://"]) == 1
        assert "file" in capsys.readouterr().err
        with pytest.raises(SystemExit, match="NOTHING_OF_THAT_NAME"):
            main(["create-tables", "env:NOTHING_OF_THAT_NAME"])

    @pytest.mark.parametrize(
        ("source", "target", "words"),
        [
            ("", "nope://x", "No transport is installed for 'nope'"),
            ("memory://x", "", "the database comes first"),
            ("", "", "the same broker"),
        ],
    )
    def test_a_relay_that_could_move_nothing_ends_at_once(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        source: str,
        target: str,
        words: str,
    ) -> None:
        url = f"sqlalchemy+sqlite:///{tmp_path}/x.db"
        assert main(["relay", source or url, target or url]) == 1
        assert words in capsys.readouterr().err

    def test_a_relay_says_what_it_does(self, tmp_path: Path, token: str) -> None:
        """And warns of what may be a mistake: nobody listens, and the outbox is a new one."""
        url = f"sqlalchemy+sqlite:///{tmp_path}/x.db"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "kombu_sqlalchemy", "relay", url, "redis://127.0.0.1:1"),
                *("--outbox", "typo", "--until-empty"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0
        assert "The target of the outbox cannot be reached yet" in done.stderr
        assert "There was no outbox typo" in done.stderr
        assert f"Moving the messages of typo from {url} to redis://127.0.0.1:1" in done.stderr

    def test_a_batch_has_a_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["relay", "a://", "b://", "--batch", "0"])
        assert "--batch" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["create-tables", "relay"])
    def test_each_command_tells_of_env(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "env:NAME" in capsys.readouterr().out

    def test_creating_tables_says_so_when_there_is_nothing_to_do(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                assert main(["create-tables", f"sqlalchemy+sqlite:///{tmp_path}/x.db"]) == 0
        assert caplog.text.count("Creating the tables") == 1
        assert caplog.text.count("are up to date") == 2
