"""In the application's transaction: what is published and settled stands and falls with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.test import override_settings

from kombu_core import Connection, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    OperationalError,
    UnroutableError,
)
from kombu_core.testing.harness import until
from kombu_django.models import Message
from kombu_django.publishing import Outbox, publish, shared_connection
from plugins.kombu_django.tests.configured import add_database
from plugins.kombu_django.tests.conftest import LEASE, SQLITE
from plugins.kombu_django.tests.databases import cut, in_thread, rows_of, taken


class Undo(Exception):
    """Raised to roll back."""


class TestPublishing:
    def test_it_is_there_with_the_row(self, alias: str, queue: str, token: str) -> None:
        with transaction.atomic(using=alias):
            Group.objects.using(alias).create(name=token)
            publish({"n": 1}, queue, using=alias)
            assert in_thread(lambda: rows_of(alias, queue)) == 0
        assert in_thread(lambda: rows_of(alias, queue)) == 1

    def test_it_is_undone_with_the_row(self, alias: str, queue: str, token: str) -> None:
        with pytest.raises(Undo), transaction.atomic(using=alias):
            Group.objects.using(alias).create(name=token)
            publish({"n": 1}, queue, using=alias)
            publish({"n": 2}, queue, using=alias, declare=[Queue(queue)])
            raise Undo
        assert rows_of(alias, queue) == 0
        assert not Group.objects.using(alias).filter(name=token).exists()

    def test_a_savepoint_undoes_its_part(
        self, alias: str, queue: str, connection: Connection
    ) -> None:
        with transaction.atomic(using=alias):
            publish("kept", queue, using=alias)
            with pytest.raises(Undo), transaction.atomic(using=alias):
                publish("undone", queue, using=alias)
                raise Undo
        assert taken(connection, queue) == ["kept"]

    def test_a_batch_and_arguments_are_part_of_it(
        self, alias: str, queue: str, connection: Connection, token: str
    ) -> None:
        limited = Queue(f"{token}-limited", max_length=2, message_ttl=60.0)
        limited(connection).declare()
        try:
            with transaction.atomic(using=alias):
                producer = shared_connection(alias).Producer()
                with producer.batch():
                    for number in range(5):
                        producer.publish(str(number), queue)
                for number in range(3):
                    publish(str(number), limited.name, using=alias, expiration=30)
                publish("later", queue, using=alias, delay=0.01)
            assert taken(connection, limited.name) == ["1", "2"]
            until(lambda: Queue(queue)(connection).queue_declare(passive=True).message_count == 6)
            assert taken(connection, queue) == ["0", "1", "2", "3", "4", "later"]
        finally:
            limited(connection).delete()

    def test_another_thread_is_no_part_of_it(self, alias: str, queue: str) -> None:
        if alias == "sqlite":
            pytest.skip("there nobody else writes meanwhile")
        with pytest.raises(Undo), transaction.atomic(using=alias):
            publish("undone", queue, using=alias)
            in_thread(lambda: publish("kept", queue, using=alias))
            raise Undo
        assert rows_of(alias, queue) == 1

    def test_transactions_do_not_wait_for_each_other(self, alias: str, queue: str) -> None:
        """Both have published to the queue and are not at their end."""
        if alias == "sqlite":
            pytest.skip("there transactions wait for each other")
        meet = threading.Barrier(2, timeout=10)

        def work() -> None:
            with transaction.atomic(using=alias):
                publish("x", queue, using=alias)
                meet.wait()
                publish("y", queue, using=alias)
                meet.wait()

        other = threading.Thread(target=in_thread, args=(work,))
        other.start()
        work()
        other.join()
        assert rows_of(alias, queue) == 4

    def test_without_a_queue_it_is_an_error(self, alias: str) -> None:
        with pytest.raises(UnroutableError), transaction.atomic(using=alias):
            publish("x", "nobody has declared this", using=alias)

    def test_the_first_of_all_may_be_in_a_transaction(self, tmp_path: Path) -> None:
        """On a file of SQLite that is not in WAL mode yet, and cannot be put into it meanwhile."""
        add_database("fresh", **SQLITE, NAME=str(tmp_path / "fresh"))
        begun = time.monotonic()
        with transaction.atomic(using="fresh"):
            Group.objects.using("fresh").create(name="x")
            with pytest.raises(UnroutableError):
                publish("x", "nowhere", using="fresh")
        Queue("somewhere")(shared_connection("fresh")).declare()
        with transaction.atomic(using="fresh"):
            publish("x", "somewhere", using="fresh")
        assert time.monotonic() - begun < 5
        assert rows_of("fresh", "somewhere") == 1

    def test_declaring_is_no_part_of_it(
        self, alias: str, connection: Connection, token: str
    ) -> None:
        declared = Queue(f"{token}-declared")
        if alias == "sqlite":
            with (
                pytest.raises(OperationalError, match="before it begins"),
                transaction.atomic(using=alias),
            ):
                publish("x", declared.name, using=alias, declare=[declared])
            return
        with pytest.raises(Undo), transaction.atomic(using=alias):
            publish("x", declared.name, using=alias, declare=[declared])
            raise Undo
        assert declared(connection).queue_declare(passive=True).message_count == 0
        declared(connection).delete()

    def test_autocommit_that_is_off_is_a_transaction(self, alias: str, queue: str) -> None:
        transaction.set_autocommit(False, using=alias)
        try:
            publish("undone", queue, using=alias)
            transaction.rollback(using=alias)
            publish("kept", queue, using=alias)
            transaction.commit(using=alias)
        finally:
            transaction.set_autocommit(True, using=alias)
        assert rows_of(alias, queue) == 1


class TestSettling:
    def test_an_ack_is_undone_with_the_effect(
        self, alias: str, queue: str, connection: Connection
    ) -> None:
        publish("once", queue, using=alias)
        channel = connection.channel()
        message = until(lambda: channel.basic_get(queue))
        assert message is not None
        with pytest.raises(Undo), transaction.atomic(using=alias):
            message.ack()
            raise Undo
        again = until(lambda: channel.basic_get(queue))
        assert again is not None
        assert again.redelivered
        with transaction.atomic(using=alias):
            again.ack()
        assert rows_of(alias, queue) == 0
        time.sleep(0.05)  # Nothing comes after it that would take it back.
        assert channel.basic_get(queue) is None

    def test_an_ack_that_could_not_be_sent_is_none(
        self, alias: str, queue: str, connection: Connection
    ) -> None:
        if alias == "sqlite":
            pytest.skip("there is no connection that breaks")
        publish("x", queue, using=alias)
        channel = connection.channel()
        message = channel.basic_get(queue)
        assert message is not None
        with pytest.raises(OperationalError), transaction.atomic(using=alias):
            cut(alias)
            message.ack()
        connections[alias].close()
        message.requeue()
        again = channel.basic_get(queue)
        assert again is not None
        again.ack()

    def test_an_ack_from_before_is_no_part_of_it(
        self, alias: str, queue: str, connection: Connection
    ) -> None:
        for word in ("a", "b"):
            publish(word, queue, using=alias)
        channel = connection.channel()
        first, second = channel.basic_get(queue), channel.basic_get(queue)
        assert first is not None
        assert second is not None
        first.ack()
        with pytest.raises(Undo), transaction.atomic(using=alias):
            second.ack()
            raise Undo
        until(lambda: rows_of(alias, queue) == 1)
        again = until(lambda: channel.basic_get(queue))
        assert again is not None
        assert again.body == b"b"
        again.ack()

    def test_a_long_transaction_keeps_the_lease(
        self, alias: str, queue: str, connection: Connection
    ) -> None:
        if alias == "sqlite":
            pytest.skip("there nobody else writes meanwhile")
        publish("long", queue, using=alias)
        channel = connection.channel()
        message = channel.basic_get(queue)
        assert message is not None
        with (
            Connection(f"django://{alias}", transport_options={"lease": LEASE}) as other,
            transaction.atomic(using=alias),
        ):
            Group.objects.using(alias).count()
            time.sleep(2 * LEASE)
            assert in_thread(lambda: other.channel().basic_get(queue)) is None
            message.ack()
        assert rows_of(alias, queue) == 0


class TestAddresses:
    def test_a_queue_that_is_not_there_is_to_be_declared(self, alias: str, token: str) -> None:
        with pytest.raises(UnroutableError) as caught:
            publish("x", token, using=alias)
        (note,) = caught.value.__notes__
        assert f"Queue({token!r})(shared_connection({alias!r})).declare()" in note

    def test_an_outbox_is_a_queue(self, alias: str, connection: Connection, token: str) -> None:
        outbox = Outbox(f"{token}-outbox", using=alias)
        with pytest.raises(UnroutableError) as caught:
            outbox.publish({"n": 1}, "orders")
        assert any("call its declare()" in note for note in caught.value.__notes__)
        outbox.declare()
        with pytest.raises(Undo), transaction.atomic(using=alias):
            outbox.publish({"n": 1}, "orders")
            raise Undo
        assert rows_of(alias, outbox.name) == 0
        Queue(outbox.name)(connection).delete()

    def test_routers_choose(self, sqlite_alias: str) -> None:
        class Router:
            def db_for_write(self, model: Any, **hints: Any) -> str | None:
                return "sqlite" if model is Message else None

        with override_settings(DATABASE_ROUTERS=[Router()]), Connection("django://") as connection:
            assert connection.transport.alias == sqlite_alias  # type: ignore[attr-defined]
            assert shared_connection() is shared_connection(sqlite_alias)

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("django://absent", "DATABASES has no 'absent'"),
            ("django://user@sqlite", "django://ALIAS"),
            ("django://sqlite?leese=1", "leese"),
            ("django://default", "memory://"),
            ("django://empty", "migrate kombu_django"),
        ],
    )
    def test_a_wrong_url_says_what_is_wrong(
        self, sqlite_alias: str, url: str, text: str, tmp_path: Path
    ) -> None:
        add_database("empty", migrate=False, **SQLITE, NAME=str(tmp_path / "empty"))
        with pytest.raises(ConfigurationError, match=text):
            Connection(url).connect()

    def test_an_async_view_publishes_by_a_thread(self, alias: str, queue: str) -> None:
        async def view() -> None:
            with pytest.raises(SynchronousOnlyOperation):
                publish("here", queue, using=alias)
            await sync_to_async(publish)("there", queue, using=alias)

        async_to_sync(view)()
        assert rows_of(alias, queue) == 1
