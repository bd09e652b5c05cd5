"""From URL and options to tables: what is refused, created, upgraded, and what errors tell."""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text

import kombu_sqlalchemy
from kombu_core import Connection, Queue
from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    ConnectError,
    OperationalError,
)
from kombu_core.message import Message
from kombu_core.testing.brokers import BrokerServer
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Batch, Drop
from kombu_sqlalchemy.engines import split_url
from kombu_sqlalchemy.store import SQLAlchemyStore
from kombu_sqlalchemy.transport import SQLAlchemyTransport
from plugins.kombu_sqlalchemy.tests.steps import claim, overwrite, put, settle, together, words

OpenStore = Callable[..., SQLAlchemyStore]

WRONG = "wr0ng-and-secret"


def make(url: str, **options: Any) -> SQLAlchemyTransport:
    return SQLAlchemyTransport(TransportParameters(parse(url, opaque=True), options))


def told(error: BaseException | None) -> str:
    """Everything that an error and what is chained to it would show."""
    if error is None:
        return ""
    return f"{error} {error!r} {error.args}" + told(error.__cause__) + told(error.__context__)


def test_the_hook_serves_its_schemes() -> None:
    for scheme in ("sqlalchemy+postgresql", "sqla+mysql", "sqlalchemy+sqlite", "sqlalchemy"):
        assert kombu_sqlalchemy.kombu_transport(scheme) is SQLAlchemyTransport
    assert kombu_sqlalchemy.kombu_transport("redis") is None


class TestURL:
    @pytest.mark.parametrize(
        ("url", "found"),
        [
            ("sqlalchemy+postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
            ("sqla+postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
            ("sqla+mysql://h/d?ssl_ca=x", "mysql+pymysql://h/d?ssl_ca=x"),
            ("SQLA+mariadb://h/d", "mariadb+pymysql://h/d"),
            ("sqlalchemy+sqlite:////tmp/x.db?kombu_lease=5", "sqlite:////tmp/x.db"),
        ],
    )
    def test_it_is_sqlalchemys_own(self, url: str, found: str) -> None:
        assert split_url(parse(url, opaque=True))[0].render_as_string() == found

    def test_options_are_in_it(self) -> None:
        url = "sqlalchemy+postgresql://h/d?kombu_lease=5&sslmode=require&kombu_prefix=x_"
        found, options = split_url(parse(url, opaque=True))
        assert options == {"lease": "5", "prefix": "x_"}
        assert dict(found.query) == {"sslmode": "require"}

    @pytest.mark.parametrize(
        "url",
        [
            "sqlalchemy://localhost/d",
            "sqlalchemy+oracle://localhost/d",
            "sqlalchemy+sqlite://",
            "sqlalchemy+sqlite:///:memory:",
            f"sqlalchemy+postgresql://u:{WRONG}@h:port/d",
        ],
    )
    def test_what_makes_no_sense_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            make(url)
        assert WRONG not in told(caught.value)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"visibility_timeout": 60}, "visibility_timeout"),
            ({"lease": "0"}, "lease"),
            ({"prefix": "a b"}, "prefix"),
            ({"prefix": "x" * 60}, "prefix"),
            ({"schema": "a;b"}, "schema"),
            ({"pool_size": 1}, "pool_size"),
            ({"synchronous": "OFF"}, "synchronous"),
            ({"create_tables": "perhaps"}, "create_tables"),
            ({"connect_args": 5}, "connect_args"),
        ],
    )
    def test_options_are_checked(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            make("sqlalchemy+sqlite:///x.db", **options)

    def test_a_missing_driver_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="nosuchdriver"):
            make("sqlalchemy+postgresql+nosuchdriver://h/d").open_store()

    @pytest.mark.parametrize(
        ("dialect", "driver", "extra"),
        [("postgresql", "psycopg", "postgresql"), ("mysql", "pymysql", "mysql")],
    )
    def test_a_driver_of_ours_is_named_with_its_extra(
        self, dialect: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, driver, None)  # As if it were not installed.
        with pytest.raises(ConfigurationError, match=rf"kombu-sqlalchemy\[{extra}\]"):
            make(f"sqlalchemy+{dialect}://h/d").open_store()

    def test_a_driver_for_asyncio_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="asyncio"):
            make("sqlalchemy+postgresql+asyncpg://h/d").open_store()

    def test_an_option_without_its_beginning_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="prefix is kombu_prefix in a URL"):
            make("sqlalchemy+sqlite:///x.db?prefix=mine_")

    def test_a_parameter_that_the_driver_does_not_know(
        self, url: str, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError, match="foo"):
            make(f"{url}{'&' if '?' in url else '?'}foo=1", **options).open_store()


class TestConnecting:
    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "x.db"
        path.write_bytes(b"no database at all" * 1000)
        with pytest.raises(ConfigurationError, match=rf"{path}: file is not a database"):
            make(f"sqlalchemy+sqlite:///{path}").open_store()

    def test_a_file_that_cannot_be(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/none/x.db"
        with pytest.raises(ConfigurationError, match=f"directory of {path} is not there"):
            make(f"sqlalchemy+sqlite:///{path}").open_store()
        with pytest.raises(ConfigurationError, match=f"{tmp_path} is a directory"):
            make(f"sqlalchemy+sqlite:///{tmp_path}").open_store()
        with pytest.raises(ConfigurationError, match="no schemas"):
            make(f"sqlalchemy+sqlite:///{tmp_path}/x.db?kombu_schema=foo").open_store()

    def test_who_waits_for_another_writer_is_told_so(self, tmp_path: Path) -> None:
        store = make(f"sqlalchemy+sqlite:///{tmp_path}/x.db", lock_timeout=0.1).open_store()
        other = sqlite3.connect(tmp_path / "x.db")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match=r"another transaction is writing.*lock_timeout"):
            put(store, "a")
        other.close()
        put(store, "b")
        store.close()

    def test_a_wrong_password_is_refused_and_not_told(self, mariadb_server: BrokerServer) -> None:
        port = mariadb_server.port
        with pytest.raises(AuthenticationError) as caught:
            make(f"sqlalchemy+mysql://kombu:{WRONG}@127.0.0.1:{port}/kombu").open_store()
        assert not caught.value.is_retryable
        assert WRONG not in told(caught.value)

    def test_an_unknown_user_is_refused(self, postgres_server: BrokerServer) -> None:
        port = postgres_server.port
        with pytest.raises(AuthenticationError) as caught:
            make(f"sqlalchemy+postgresql://x:{WRONG}@127.0.0.1:{port}/kombu").open_store()
        assert WRONG not in told(caught.value)

    @pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
    def test_nobody_listens(self, dialect: str) -> None:
        with pytest.raises(ConnectError) as caught:
            make(f"sqlalchemy+{dialect}://u:{WRONG}@127.0.0.1:1/d").open_store()
        assert caught.value.is_retryable
        assert WRONG not in told(caught.value)

    def test_a_user_without_rights(self, postgres_server: BrokerServer, token: str) -> None:
        prefix = f"t{token[:8]}_"
        make(
            f"sqlalchemy+{postgres_server.url}", prefix=prefix, create_tables=True
        ).open_store().close()
        engine = create_engine(postgres_server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.execute(text(f"CREATE ROLE reader_{token[:8]} LOGIN"))
            connection.execute(
                text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{token[:8]}")
            )
        engine.dispose()
        url = postgres_server.url.replace("kombu@", f"reader_{token[:8]}@")
        store = make(f"sqlalchemy+{url}", prefix=prefix).open_store()
        with pytest.raises(AccessRefusedError):
            put(store, "x")
        store.close()


class TestTables:
    def test_sqlite_creates_them_and_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="kombu_sqlalchemy"):
            make(f"sqlalchemy+sqlite:///{tmp_path}/x.db").open_store().close()
            assert "Creating the tables kombu_*" in caplog.text
            caplog.clear()
            make(f"sqlalchemy+sqlite:///{tmp_path}/x.db").open_store().close()
            assert not caplog.text

    def test_others_are_told_how(self, postgres_server: BrokerServer, token: str) -> None:
        url, prefix = f"sqlalchemy+{postgres_server.url}", f"t{token[:8]}_"
        with pytest.raises(ConfigurationError, match="create_tables"):
            make(url, prefix=prefix).open_store()
        engine = create_engine(postgres_server.url.replace("postgresql:", "postgresql+psycopg:"))
        for _ in range(2):
            with engine.begin() as connection:
                kombu_sqlalchemy.create_tables(connection, prefix=prefix)
        engine.dispose()
        store = make(url, prefix=prefix).open_store()
        put(store, "a")
        store.close()

    def test_metadata_is_all_there_is(self, store: SQLAlchemyStore, options: Any) -> None:
        """What a migration would be made from, and what is in the database."""
        metadata = kombu_sqlalchemy.make_metadata(options["prefix"])
        with store.database.connect() as connection:
            there = inspect(connection)
            for table in metadata.sorted_tables:
                columns = {column["name"] for column in there.get_columns(table.name)}
                assert columns == set(table.columns.keys())
                indexes = {index["name"] for index in there.get_indexes(table.name)}
                assert indexes >= {index.name for index in table.indexes}

    def test_processes_that_create_them_at_once(self, open_store: OpenStore) -> None:
        together(*[open_store] * 5)

    def test_newer_tables_are_refused(self, store: SQLAlchemyStore, open_store: OpenStore) -> None:
        store.database.run(
            lambda connection: store.queries.change(
                connection, "UPDATE {meta} SET value = 99 WHERE name = 'schema'"
            )
        )
        with pytest.raises(ConfigurationError, match=r"99.*a newer kombu-sqlalchemy"):
            open_store()

    def test_a_table_that_is_missing_is_named_and_created(
        self, store: SQLAlchemyStore, open_store: OpenStore
    ) -> None:
        with store.database.connect() as connection:
            connection.execute(store.queries.sql("DROP TABLE {sessions}"))
        with pytest.raises(BrokerError) as caught:
            store.begin("me", 60)
        assert not caught.value.is_retryable
        with pytest.raises(ConfigurationError, match=r"sessions is not in the schema .*create-tab"):
            open_store(create_tables=False)
        open_store().begin("me", 60)

    def test_a_schema_that_is_missing(self, postgres_server: BrokerServer) -> None:
        with pytest.raises(ConfigurationError, match="nosuch is not there; create it first"):
            make(
                f"sqlalchemy+{postgres_server.url}", schema="nosuch", create_tables=True
            ).open_store()
        with pytest.raises(ConfigurationError, match="are not in the schema nosuch"):
            make(f"sqlalchemy+{postgres_server.url}", schema="nosuch").open_store()

    @pytest.mark.parametrize("is_cut_off", [False, True])
    def test_older_tables_are_upgraded_in_place(
        self, store: SQLAlchemyStore, open_store: OpenStore, *, is_cut_off: bool
    ) -> None:
        """Of version 1, which had no places: all messages are there, before those that come."""
        put(store, "a", "b", queue="old")
        put(store, "soon", queue="old", delay=0.05)
        put(store, "late", queue="old", delay=60)
        with store.database.connect() as connection:
            if is_cut_off:
                connection.execute(store.queries.sql("UPDATE {messages} SET place = 0"))
            else:
                _take_places_away(connection, store.queries.table)
            connection.execute(
                store.queries.sql("UPDATE {meta} SET value = 1 WHERE name = 'schema'")
            )
        with pytest.raises(ConfigurationError, match=r"version 1, .* stop its"):
            open_store(create_tables=False)
        newer = open_store()
        newer.begin("me", 60)
        time.sleep(0.06)
        put(newer, "new", queue="old")
        assert words(claim(newer, queue="old")) == ["a", "b", "soon", "new"]
        self.test_metadata_is_all_there_is(newer, {"prefix": newer.queries.table[:-8]})
        newer.write({}, (), [Drop("old")])

    def test_a_schema_and_prefixes_keep_apart(
        self, postgres_server: BrokerServer, token: str
    ) -> None:
        url, name = f"sqlalchemy+{postgres_server.url}", f"s{token[:8]}"
        engine = create_engine(postgres_server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        stores = [
            make(url, create_tables=True, **options).open_store()
            for options in (
                {"schema": name},
                {"schema": name, "prefix": "other_"},
                {"prefix": f"{name}_"},
            )
        ]
        put(stores[0], "a")
        assert [store.count("q").ready for store in stores] == [1, 0, 0]
        stores[0].begin("me", 60)
        assert words(claim(stores[0])) == ["a"]
        for store in stores:
            store.close()


def _take_places_away(connection: Any, table: str) -> None:
    """Make the tables of today what they were in version 1."""
    where = {
        "sqlite": ("", " WHERE state = 1", " WHERE state = 2"),
        "postgresql": ("", " WHERE state = 1", " WHERE state = 2"),
    }.get(connection.dialect.name, ("", "", ""))
    on = f" ON {table}" if connection.dialect.name in ("mysql", "mariadb") else ""
    for name in ("in_order", "delayed", "claimed"):
        connection.exec_driver_sql(f"DROP INDEX {table}_{name}{on}")
    connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN place")
    for name, columns, end in (
        ("in_order", "queue, state, level, id", where[0]),
        ("delayed", "queue, state, available_at", where[1]),
        ("claimed", "claimed_by", where[2]),
    ):
        connection.exec_driver_sql(f"CREATE INDEX {table}_{name} ON {table} ({columns}){end}")
    numbers = connection.exec_driver_sql(f"SELECT id FROM {table} ORDER BY id").scalars().all()
    for number, id_ in enumerate(numbers, 1):
        connection.exec_driver_sql(f"UPDATE {table} SET id = {number} WHERE id = {id_}")


class TestDepth:
    def test_a_claim_costs_the_same_however_long_the_queue_is(
        self, me: SQLAlchemyStore, backend: str
    ) -> None:
        """Seen in the plans, not by a clock: nothing is sorted, nothing is read as a whole."""
        put(me, *(str(number) for number in range(3000)))
        put(me, "other", queue="p")
        table = f"FROM {me.queries.table} WHERE queue = 'q' AND state = 0"
        statement = f"SELECT id {table} ORDER BY level, place, id LIMIT 10"
        explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}
        with me.database.connect() as connection:
            found = connection.exec_driver_sql(explain.get(backend, "EXPLAIN ") + statement)
            plan = "\n".join(str(row) for row in found)
        assert "in_order" in plan
        assert not any(word in plan.lower() for word in ("sort", "b-tree", "seq scan"))

    def test_a_queue_that_lived_long_is_as_small_as_before(self, me: SQLAlchemyStore) -> None:
        for _ in range(20):
            put(me, *(str(number) for number in range(200)))
            while claimed := claim(me):
                settle(me, acks=[item.claim for item in claimed])
        assert me.commit(Batch()).lost == ()
        with me.database.connect() as connection:
            assert (
                connection.exec_driver_sql(f"SELECT count(*) FROM {me.queries.table}").scalar_one()
                == 0
            )


def test_the_whole_way_by_the_url_alone(tmp_path: Path) -> None:
    url = f"sqla+sqlite:///{tmp_path}/x.db?kombu_lease=5&kombu_prefix=mine_"
    with Connection(url) as connection:
        connection.Producer().publish({"a": 1}, "q", declare=[Queue("q")])
    with Connection(url) as connection:
        message = Queue("q")(connection).get()
        assert message is not None
        assert message.payload == {"a": 1}
        message.ack()
        assert connection.transport.driver_type == "sql"


def test_garbage_in_a_row_goes_to_quarantine(url: str, options: dict[str, Any]) -> None:
    came: list[Message] = []
    with Connection(url, transport_options=options) as connection:
        queue = Queue("q")
        queue(connection).declare()
        connection.Producer().publish_many(["bad", "good"], "q")
        transport: Any = connection.transport
        (first, _), *_ = transport.store.database.run(
            lambda c: transport.store.queries.rows(c, "SELECT id, 0 FROM {messages} ORDER BY id")
        )
        overwrite(transport.store, first, b"no envelope")
        with connection.Consumer([queue], on_message=came.append, no_ack=True):
            connection.drain_events(timeout=5)
        assert [message.payload for message in came] == ["good"]
        Queue("kombu.quarantine")(connection).declare()
        quarantined = Queue("kombu.quarantine")(connection).get(no_ack=True)
        assert quarantined is not None
        assert quarantined.body == b"no envelope"
        assert quarantined.headers["x-quarantine-queue"] == "q"
