"""The management commands, and the system checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import override_settings

from kombu_core import Connection, Queue
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import fetch
from kombu_django.checks import check_databases, check_settings, check_sqlite
from kombu_django.publishing import Outbox, publish
from plugins.kombu_django.tests.configured import add_database, remove_database
from plugins.kombu_django.tests.conftest import SQLITE
from plugins.kombu_django.tests.databases import rows_of, taken


@pytest.fixture
def alias(sqlite_alias: str) -> str:
    """One database is enough for these."""
    return sqlite_alias


def run(name: str, *arguments: str) -> str:
    """Run a command and return what it says."""
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue().strip()


class TestQueues:
    def test_it_counts(self, queue: str, connection: Connection) -> None:
        for delay in (0, 0, 60):
            publish("x", queue, using="sqlite", delay=delay)
        channel = connection.channel()
        channel.basic_consume(queue, lambda message: None)
        held = fetch(channel, queue)
        lines = run("kombu_queues", "--database", "sqlite", queue).splitlines()
        assert [line.split() for line in lines] == [
            ["queue", "ready", "delayed", "unacked", "oldest", "consumers"],
            [queue, "1", "1", "1", "0", "s", "1"],
        ]
        (found,) = json.loads(run("kombu_queues", "--database", "sqlite", queue, "--json"))
        assert found.pop("oldest") < 60
        assert found == {"name": queue, "ready": 1, "delayed": 1, "claimed": 1, "consumers": 1}
        held.ack()

    def test_an_unknown_queue_is_an_error(self, alias: str) -> None:
        with pytest.raises(CommandError, match="no queue nothing"):
            run("kombu_queues", "--database", alias, "nothing")

    @pytest.mark.parametrize("arguments", [["kombu_queues"], ["kombu_purge", "q", "--no-input"]])
    def test_without_tables_they_say_what_makes_them(
        self, arguments: list[str], tmp_path: Path
    ) -> None:
        file = str(tmp_path / "empty.sqlite3")
        add_database("empty", migrate=False, **SQLITE, NAME=file)
        try:
            with pytest.raises(CommandError, match="migrate kombu_django --database empty"):
                run(*arguments, "--database", "empty")
        finally:
            remove_database("empty")

    def test_an_unknown_database_is_an_error(self) -> None:
        with pytest.raises(CommandError, match="DATABASES has no 'absent'"):
            run("kombu_queues", "--database", "absent")

    def test_its_help_tells_what_the_columns_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("queues", "consume", "purge", "relay", "tasks"):
            with pytest.raises(SystemExit):
                call_command(f"kombu_{name}", "--help")
            assert len(capsys.readouterr().out) > 600


class TestPurge:
    def test_it_asks(self, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
        publish("x", queue, using="sqlite")
        publish("y", queue, using="sqlite", delay=60)
        monkeypatch.setattr("builtins.input", lambda prompt: "no")
        with pytest.raises(CommandError, match="Nothing was deleted"):
            run("kombu_purge", "--database", "sqlite", queue)
        assert rows_of("sqlite", queue) == 2
        monkeypatch.setattr("builtins.input", lambda prompt: "yes")
        assert run("kombu_purge", "--database", "sqlite", queue) == f"{queue}: 1 deleted"
        assert rows_of("sqlite", queue) == 1

    def test_an_unknown_queue_is_an_error(self, alias: str) -> None:
        with pytest.raises(CommandError, match="no queue nothing"):
            run("kombu_purge", "--database", alias, "nothing", "--no-input")


class TestConsume:
    HANDLER = "plugins.kombu_django.tests.handlers.save_group"

    def test_effect_and_acknowledgement_are_one(self, queue: str, token: str) -> None:
        for name, fails in (("a", False), ("b", True), ("c", False)):
            publish({"name": f"{token}-{name}", "fails": fails}, queue, using="sqlite")
        said = run("kombu_consume", "--database", "sqlite", "--until-empty", self.HANDLER, queue)
        assert said == "2 handled, 1 failed"
        groups = Group.objects.using("sqlite").filter(name__startswith=token)
        assert sorted(groups.values_list("name", flat=True)) == [f"{token}-a", f"{token}-c"]
        assert rows_of("sqlite", queue) == 0

    def test_what_fails_goes_to_the_dead_letters(
        self, alias: str, connection: Connection, token: str
    ) -> None:
        dead = Queue(f"{token}-dead")
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
        fails = Queue(f"{token}-fails", queue_arguments=arguments)
        dead(connection).declare()
        fails(connection).declare()
        publish({"name": token, "fails": True}, fails.name, using=alias)
        run("kombu_consume", "--database", alias, "--until-empty", self.HANDLER, fails.name)
        assert len(taken(connection, dead.name)) == 1
        dead(connection).delete()
        fails(connection).delete()

    def test_what_cannot_be_decoded_stops_nothing(
        self, alias: str, queue: str, token: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        publish(b"{", queue, using=alias, content_type="application/json", content_encoding="utf-8")
        publish({"name": f"{token}-a"}, queue, using=alias)
        said = run("kombu_consume", "--database", alias, "--until-empty", self.HANDLER, queue)
        assert said == "1 handled, 1 failed"
        assert "cannot be decoded" in caplog.text
        assert rows_of(alias, queue) == 0

    def test_a_wrong_name_is_an_error(self, alias: str) -> None:
        with pytest.raises(CommandError, match="no handler"):
            run("kombu_consume", "--database", alias, "nowhere.nothing", "q")
        with pytest.raises(CommandError, match="NotFoundError"):
            run("kombu_consume", "--database", alias, self.HANDLER, "no such queue")
        with pytest.raises(CommandError, match="'-1' is no whole number of 0 or more"):
            run("kombu_consume", "--database", alias, self.HANDLER, "q", "--prefetch=-1")


class TestRelay:
    @pytest.fixture
    def outbox(self, alias: str, connection: Connection, token: str) -> Iterator[Outbox]:
        """An outbox that is there."""
        outbox = Outbox(f"{token}-outbox", using=alias)
        outbox.declare()
        yield outbox
        for name in (outbox.name, f"{outbox.name}.failed"):
            Queue(name)(connection).delete()

    def test_it_moves_to_another_broker(
        self, outbox: Outbox, redis_server: BrokerServer, token: str, monkeypatch: Any
    ) -> None:
        monkeypatch.setenv("BROKER_URL", redis_server.url)
        with Connection(redis_server.url) as target:
            Queue(token)(target).declare()
            ids = [outbox.publish({"n": n}, token, headers={"h": n}) for n in range(5)]
            outbox.publish("lost", exchange="no such exchange")
            arguments = ("--database", "sqlite", "--outbox", outbox.name, "--until-empty")
            assert run("kombu_relay", "env:BROKER_URL", *arguments).endswith("\n5 moved")
            channel = target.channel()
            found = [fetch(channel, token, no_ack=True) for _ in range(5)]
            assert [message.properties["message_id"] for message in found] == ids
            assert [message.headers for message in found] == [{"h": n} for n in range(5)]
            Queue(token)(target).delete()
        assert rows_of("sqlite", outbox.name) == 0
        assert rows_of("sqlite", f"{outbox.name}.failed") == 1

    def test_a_url_that_is_not_there_is_an_error(self, alias: str) -> None:
        with pytest.raises(CommandError, match="ABSENT"):
            run("kombu_relay", "--database", alias, "env:ABSENT")

    def test_a_relay_that_could_move_nothing_ends_at_once(self, alias: str) -> None:
        with pytest.raises(CommandError, match="No transport is installed for 'nope'"):
            run("kombu_relay", "--database", alias, "nope://x")
        with pytest.raises(CommandError, match="are the same database"):
            run("kombu_relay", "--database", alias, f"django://{alias}?lease=5")
        with pytest.raises(CommandError, match="'0' is no whole number of 1 or more"):
            run("kombu_relay", "--database", alias, "memory://x", "--batch", "0")

    def test_it_says_what_it_begins(self, outbox: Outbox, token: str) -> None:
        arguments = ("--database", "sqlite", "--outbox", outbox.name, "--until-empty")
        said = run("kombu_relay", f"memory://{token}", *arguments).splitlines()
        assert said[0].startswith(f"Moving the messages of {outbox.name} from django://sqlite")
        assert said[0].endswith(f"to memory://{token}")
        assert said[1:] == ["0 moved"]


class TestChecks:
    @pytest.mark.parametrize(
        ("setting", "ids"),
        [
            ({}, []),
            ({"OPTIONS": {"lease": 5}}, []),
            ([], ["E001"]),
            ({"OPTION": {}}, ["E001"]),
            ({"OPTIONS": {"leese": 5}}, ["E002"]),
            ({"OPTIONS": {"lease": 0}}, ["E002"]),
            ({"OPTIONS": []}, ["E002"]),
            ({"DATABASES": {"default": 5}}, ["E002"]),
            ({"DATABASES": []}, ["E003"]),
            ({"DATABASES": {"absent": {}}}, ["E003"]),
            ({"REDACT": "nowhere.nothing"}, ["E004"]),
            ({"REDACT": None}, []),
        ],
    )
    def test_the_setting(self, setting: Any, ids: list[str]) -> None:
        with override_settings(KOMBU=setting):
            found = [message.id for message in check_settings()]
        assert found == [f"kombu_django.{id_}" for id_ in ids]

    def test_manage_py_check_reports_it(self) -> None:
        with (
            override_settings(KOMBU={"X": 1}),
            pytest.raises(CommandError, match="unknown keys: X"),
        ):
            call_command("check")

    def test_databases(self, alias: str) -> None:
        assert check_databases([alias]) == []
        found = [message.id for message in check_databases(["default"])]
        assert found == ["kombu_django.E008"]

    def test_how_transactions_begin_on_sqlite_is_said_at_deployment(
        self, alias: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        advised = [alias] if django.VERSION < (5, 1) else []  # There is no such mode.
        assert [message.id for message in check_sqlite()] == ["kombu_django.W003"] * len(advised)
        file = str(tmp_path / "plain.sqlite3")
        add_database("plain", ENGINE="django.db.backends.sqlite3", NAME=file)
        try:
            call_command("migrate", database="plain")
            assert "W003" not in "".join(capsys.readouterr())
            call_command("check", deploy=True)
            assert "W003) A transaction on 'plain'" in capsys.readouterr().err
        finally:
            remove_database("plain")
