"""The admin, by its pages: what it shows, what it asks, and whom it lets do what."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client, override_settings
from django.urls import reverse

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import NotFoundError, UnroutableError
from kombu_core.testing.harness import fetch
from kombu_core.virtual.topology import queue_key
from kombu_django.inspection import inspect
from kombu_django.models import Message
from kombu_django.publishing import publish
from kombu_django.task_framework import TaskResultDoesNotExist
from plugins.kombu_django.tests.databases import rows_of, taken
from plugins.kombu_django.tests.sample_tasks import add, fail, produce
from plugins.kombu_django.tests.test_django_tasks import work

QUEUES = "admin:kombu_django_queue_changelist"
MESSAGES = "admin:kombu_django_message_changelist"
RESULTS = "admin:kombu_django_taskrecord_changelist"


class Router:
    """Everything is in one database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "sqlite"

    db_for_write = db_for_read


@pytest.fixture
def alias(sqlite_alias: str) -> Iterator[str]:
    """One database is enough: the admin's queries are the models'."""
    with override_settings(DATABASE_ROUTERS=[Router()]):
        yield sqlite_alias


@pytest.fixture
def admin(alias: str, token: str) -> Client:
    """A browser of somebody who may do everything."""
    return _client(User.objects.create_superuser(f"admin-{token[:8]}"))


def _client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def _with(token: str, *permissions: str) -> Client:
    user = User.objects.create_user(f"staff-{token[:8]}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return _client(user)


def _text(response: Any) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", _html(response)))


def _html(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def _ids(queue: str) -> list[int]:
    return list(Message.objects.filter(queue=queue).order_by("id").values_list("id", flat=True))


def _act(client: Client, page: str, action: str, *selected: object, **answer: str) -> Any:
    data = {"action": action, "_selected_action": [str(one) for one in selected], **answer}
    return client.post(reverse(page), data, follow=True)


def _page_of(message: int) -> str:
    return str(reverse("admin:kombu_django_message_change", args=[message]))


class TestLooking:
    def test_the_queues(self, admin: Client, queue: str, connection: Connection) -> None:
        for delay in (0, 0, 60):
            publish("x", queue, delay=delay)
        channel = connection.channel()
        channel.basic_consume(queue, lambda message: None)
        held = fetch(channel, queue)
        row = re.search(rf"{queue}\s+1\s+1\s+1\s+\d+ s\s+1\s", _text(admin.get(reverse(QUEUES))))
        assert row is not None
        held.ack()
        found = _text(admin.get(reverse(QUEUES), {"q": queue[:12].upper()}))
        assert queue in found
        assert queue not in _text(admin.get(reverse(QUEUES), {"q": "something else"}))

    def test_one_queue(self, admin: Client, alias: str, connection: Connection, token: str) -> None:
        declared = Queue(f"{token}/é", max_length=7)
        declared(connection).declare()
        page = reverse("admin:kombu_django_queue_change", args=[quote(queue_key(declared.name))])
        assert f'href="{page}"' in _html(admin.get(reverse(QUEUES)))
        found = _text(admin.get(page))
        assert declared.name in found
        assert "durable, x-max-length=7" in found
        declared(connection).delete()

    def test_a_body_is_shown_and_does_nothing(self, admin: Client, queue: str) -> None:
        publish("<script>alert('é')</script>", queue, headers={"k": "<b>"}, priority=3)
        (message,) = _ids(queue)
        page = _html(admin.get(_page_of(message)))
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(&#x27;é&#x27;)&lt;/script&gt;" in page
        assert "&lt;b&gt;" in page
        assert "text/plain" in page

    def test_bytes_and_garbage_are_shown(self, admin: Client, queue: str) -> None:
        publish(bytes(range(256)) * 3, queue)
        (message,) = _ids(queue)
        assert "00 01 02 03" in _text(admin.get(_page_of(message)))
        Message.objects.filter(id=message).update(body=b"\x00garbage")
        assert "it does not begin with the mark" in _text(admin.get(_page_of(message)))

    def test_a_huge_body_is_cut(self, admin: Client, queue: str) -> None:
        publish("x" * 1_000_000, queue)
        (message,) = _ids(queue)
        page = _html(admin.get(_page_of(message)))
        assert len(page) < 100_000
        assert "980000 more" in page

    def test_secrets_are_redacted(self, admin: Client, queue: str) -> None:
        publish({"card": "4111111111111111"}, queue, headers={"card": "4111111111111111"})
        publish(b"\xff4111111111111111", queue)
        first, second = _ids(queue)
        hides = "plugins.kombu_django.tests.redacting.hide_cards"
        with override_settings(KOMBU={"REDACT": hides}):
            assert _text(admin.get(_page_of(first))).count('"****"') == 2
            assert "4111111111111111" not in _text(admin.get(_page_of(first)))
            assert "(redacted)" in _text(admin.get(_page_of(second)))
        with override_settings(KOMBU={"REDACT": None}):
            assert "card" not in _text(admin.get(_page_of(first)))

    def test_a_list_reads_no_bodies(
        self, admin: Client, queue: str, django_queries: list[str]
    ) -> None:
        publish("x", queue)
        assert queue in _text(admin.get(reverse(MESSAGES), {"queue": queue}))
        assert not [text for text in django_queries if '"body"' in text]


@pytest.fixture
def django_queries(alias: str) -> Iterator[list[str]]:
    """The statements of this thread."""
    found: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        found.append(sql)
        return execute(sql, *rest)

    with connections[alias].execute_wrapper(note):
        yield found


class TestDoing:
    def test_purging_asks(self, admin: Client, queue: str, connection: Connection) -> None:
        for _ in range(3):
            publish("x", queue)
        held = fetch(connection.channel(), queue)
        key = f"queue/{queue}"
        page = _text(_act(admin, QUEUES, "purge_queues", key))
        assert f"Delete 2 ready messages of {queue}?" in page
        assert rows_of("sqlite", queue) == 3
        page = _text(_act(admin, QUEUES, "purge_queues", key, confirmed="yes"))
        assert f"2 messages of {queue} were deleted" in page
        assert rows_of("sqlite", queue) == 1
        held.ack()

    def test_deleting_a_queue_tells_what_is_lost(
        self, admin: Client, connection: Connection, token: str
    ) -> None:
        exchange = Exchange(f"{token}-x", "fanout")
        doomed = Queue(f"{token}-doomed", exchange)
        doomed(connection).declare()
        key = queue_key(doomed.name)
        for delay in (0, 0, 60):
            publish("x", doomed.name, delay=delay)
        channel = connection.channel()
        cancelled: list[str] = []
        tag = channel.basic_consume(doomed.name, lambda message: None, on_cancel=cancelled.append)
        fetch(channel, doomed.name)
        page = _text(_act(admin, QUEUES, "delete_queues", key))
        assert f"Delete {doomed.name}?" in page
        assert "has 1 ready, 1 delayed and 1 unacknowledged messages" in page
        assert "has consumers: 1." in page

        page = _text(_act(admin, QUEUES, "delete_queues", key, confirmed="yes"))
        assert f"{doomed.name} has messages." in page
        answer = {"confirmed": "yes", "even_full": "on"}
        page = _text(_act(admin, QUEUES, "delete_queues", key, **answer))
        assert "in use" in page
        assert rows_of("sqlite", doomed.name) == 3

        answer["even_used"] = "on"
        page = _text(_act(admin, QUEUES, "delete_queues", key, **answer))
        assert f"{doomed.name} was deleted." in page
        assert rows_of("sqlite", doomed.name) == 0
        assert doomed.name not in _text(admin.get(reverse(QUEUES))).replace("was deleted", "")
        with pytest.raises(UnroutableError):
            publish("x", "", exchange=exchange.name)
        connection.drain_events(timeout=10)
        assert cancelled == [tag]
        exchange(connection).delete()

    def test_an_empty_queue_goes_with_one_answer(
        self, admin: Client, connection: Connection, token: str
    ) -> None:
        for name in "ab":
            Queue(f"{token}-{name}")(connection).declare()
        keys = [queue_key(f"{token}-{name}") for name in "ab"]
        page = _html(_act(admin, QUEUES, "delete_queues", *keys))
        assert "even_full" not in page
        assert "even_used" not in page
        page = _text(_act(admin, QUEUES, "delete_queues", *keys, confirmed="yes"))
        for name in "ab":
            assert f"{token}-{name} was deleted." in page
            with pytest.raises(NotFoundError):
                connection.channel().queue_declare(f"{token}-{name}", passive=True)

    def test_what_is_exclusive_stays(
        self, admin: Client, connection: Connection, token: str
    ) -> None:
        Queue(token, exclusive=True)(connection).declare()
        page = _text(_act(admin, QUEUES, "delete_queues", queue_key(token), confirmed="yes"))
        assert "was deleted" not in page
        assert "exclusive" in page.lower() or "locked" in page.lower()
        assert token in _text(admin.get(reverse(QUEUES)))

    def test_results_of_tasks(self, admin: Client, alias: str, token: str) -> None:
        result = add.enqueue(4111, b=1)
        broken = fail.enqueue("<b>no luck</b>")
        work("default")
        page = _text(admin.get(reverse(RESULTS)))
        assert result.id in page
        page = _text(admin.get(reverse("admin:kombu_django_taskrecord_change", args=[result.id])))
        assert '"args":[4111],"kwargs":{"b":1}' in page
        assert "4112" in page
        raw = _html(admin.get(reverse("admin:kombu_django_taskrecord_change", args=[broken.id])))
        assert "ValueError: &lt;b&gt;no luck" in raw
        with override_settings(KOMBU={"REDACT": None}):
            address = reverse("admin:kombu_django_taskrecord_change", args=[result.id])
            assert "4111" not in _text(admin.get(address)).replace(result.id, "")
        _act(admin, RESULTS, "delete_selected", result.id, post="yes")
        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()

    def test_a_result_is_redacted_as_its_message_is(self, admin: Client, alias: str) -> None:
        called = produce.enqueue("card 4111")
        failed = fail.enqueue("card 4111")
        (first, _) = _ids("tasks.default")
        message = inspect("", bytes(Message.objects.get(id=first).body)).body
        pages = [
            reverse("admin:kombu_django_taskrecord_change", args=[one.id])
            for one in (called, failed)
        ]
        assert "card 4111" in message
        assert message in _text(admin.get(_page_of(first)))
        assert message in _text(admin.get(pages[0]))
        work("default")
        with override_settings(KOMBU={"REDACT": "plugins.kombu_django.tests.redacting.hide_tasks"}):
            shown = [_text(admin.get(page)) for page in pages]
        assert not any("4111" in page for page in shown)
        assert [page.count("(hidden)") for page in shown] == [3, 2]  # All that it has of them.

    def test_moving_asks_whereto(
        self, admin: Client, queue: str, connection: Connection, token: str
    ) -> None:
        other = Queue(f"{token}-other")
        other(connection).declare()
        for word in ("a", "b", "c"):
            publish(word, queue)
        a, _, c = _ids(queue)
        page = _html(_act(admin, MESSAGES, "move_messages", a, c))
        assert "Move 2 messages" in page
        assert f"<option>{other.name}" in page
        page = _text(
            _act(admin, MESSAGES, "move_messages", a, c, confirmed="yes", target=other.name)
        )
        assert f"2 messages were moved to {other.name}" in page
        assert taken(connection, other.name) == ["a", "c"]
        assert taken(connection, queue) == ["b"]
        refused = _act(admin, MESSAGES, "move_messages", a, confirmed="yes", target="nowhere")
        assert refused.status_code == 403
        other(connection).delete()

    def test_dead_letters_go_back_where_they_died(
        self, admin: Client, queue: str, connection: Connection, token: str
    ) -> None:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
        source = Queue(f"{token}-source", queue_arguments=arguments)
        source(connection).declare()
        publish("x", source.name)
        fetch(connection.channel(), source.name).reject()
        (dead,) = _ids(queue)
        assert source.name in _text(admin.get(_page_of(dead)))
        page = _html(_act(admin, MESSAGES, "move_messages", dead))
        assert f"<option selected>{source.name}" in page
        source(connection).delete()

    def test_requeueing_gives_back(self, admin: Client, queue: str, connection: Connection) -> None:
        publish("held", queue)
        publish("late", queue, delay=60)
        channel = connection.channel()
        fetch(channel, queue)
        both = _ids(queue)
        page = _text(_act(admin, MESSAGES, "requeue_messages", *both))
        assert "Make 2 messages ready" in page
        page = _text(_act(admin, MESSAGES, "requeue_messages", *both, confirmed="yes"))
        assert "2 messages are ready again" in page
        again = fetch(channel, queue)
        assert (again.body, again.redelivered) == (b"held", True)
        assert taken(connection, queue) == ["late"]
        again.ack()

    def test_deleting_asks(self, admin: Client, queue: str, connection: Connection) -> None:
        for word in ("a", "b"):
            publish(word, queue)
        first, _ = _ids(queue)
        page = _text(_act(admin, MESSAGES, "delete_selected", first))
        assert "Are you sure" in page
        assert rows_of("sqlite", queue) == 2
        _act(admin, MESSAGES, "delete_selected", first, post="yes")
        assert taken(connection, queue) == ["b"]


class TestPermissions:
    def test_without_any_there_is_nothing(self, alias: str, token: str) -> None:
        client = _with(token)
        assert client.get(reverse(QUEUES)).status_code == 403
        assert client.get(reverse(MESSAGES)).status_code == 403

    def test_who_may_look_may_do_nothing(self, alias: str, queue: str, token: str) -> None:
        publish("x", queue)
        (message,) = _ids(queue)
        client = _with(token, "view_message", "view_queue")
        assert "delete_selected" not in _html(client.get(reverse(MESSAGES)))
        assert "purge_queues" not in _html(client.get(reverse(QUEUES)))
        assert "x" in _text(client.get(_page_of(message)))
        for page, action, selected in (
            (QUEUES, "purge_queues", f"queue/{queue}"),
            (QUEUES, "delete_queues", f"queue/{queue}"),
            (MESSAGES, "requeue_messages", message),
            (MESSAGES, "move_messages", message),
            (MESSAGES, "delete_selected", message),
        ):
            answer = {"confirmed": "yes", "post": "yes", "target": queue, "even_full": "on"}
            _act(client, page, action, selected, **answer)
        assert _ids(queue) == [message]

    def test_who_may_delete_may_purge(self, alias: str, queue: str, token: str) -> None:
        publish("x", queue)
        client = _with(token, "view_queue", "delete_message", "view_message")
        _act(client, QUEUES, "purge_queues", f"queue/{queue}", confirmed="yes")
        assert _ids(queue) == []

    def test_who_may_purge_may_not_delete_the_queue(
        self, alias: str, queue: str, connection: Connection, token: str
    ) -> None:
        client = _with(token, "view_queue", "delete_message", "view_message")
        _act(client, QUEUES, "delete_queues", f"queue/{queue}", confirmed="yes")
        assert connection.channel().queue_declare(queue, passive=True).queue == queue

    def test_nobody_adds_or_edits(self, admin: Client, queue: str) -> None:
        publish("x", queue)
        (message,) = _ids(queue)
        assert admin.get(reverse("admin:kombu_django_message_add")).status_code == 403
        assert admin.get(reverse("admin:kombu_django_queue_add")).status_code == 403
        admin.post(_page_of(message), {"queue": "elsewhere", "state": 0})
        assert _ids(queue) == [message]
