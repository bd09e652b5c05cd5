"""The admin's pages of messages: what is in them, and what can be done with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.timezone import localtime

from kombu_core.exceptions import KombuError
from kombu_core.virtual.tables import MAX_PRIORITY, READY
from kombu_core.virtual.topology import queue_key
from kombu_django.admin_pages import ReadOnlyAdmin, preformatted
from kombu_django.inspection import Content, inspect
from kombu_django.operations import move, requeue
from kombu_django.overview import QUARANTINE, queue_documents, record_of

#: Messages that one action settles in one go.
_MOST: Final = 10_000


class _ByQueue(admin.SimpleListFilter):
    """The queues that are declared."""

    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = [record_of(one).name for one in queue_documents(_using(model_admin, request))]
        return [(name, name) for name in dict.fromkeys([*names, QUARANTINE])]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value() is None else queryset.filter(queue=self.value())


def _using(model_admin: Any, request: HttpRequest) -> str:
    return str(model_admin.get_queryset(request).db)


class MessageAdmin(ReadOnlyAdmin):
    """Messages: what is in them, and what can be done with them."""

    list_display = ("id", "queue", "state", "priority", "published", "deliveries", "size")
    list_filter = (_ByQueue, "state")
    ordering = ("id",)
    list_per_page = 50
    show_full_result_count = False
    actions = ("requeue_messages", "move_messages")
    fields = (
        "queue", "state", "body_text", "headers", "exchange", "routing_key", "properties",
        "priority", "published", "expires", "deliveries", "claimed_by", "died_in", "size",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        match = request.resolver_match
        # Only the page of one message shows what is in it.
        is_list = match is not None and str(match.url_name).endswith("changelist")
        return found.defer("body") if is_list else found

    @admin.display(description="priority")
    def priority(self, obj: Any) -> int:
        """As it was published."""
        return int(MAX_PRIORITY - obj.level)

    @admin.display(description="published", ordering="put_at")
    def published(self, obj: Any) -> str:
        """When it came."""
        return _moment(obj.put_at)

    @admin.display(description="expires")
    def expires(self, obj: Any) -> str:
        """When it dies unread."""
        return "never" if obj.expires_at is None else _moment(obj.expires_at)

    @admin.display(description="exchange")
    def exchange(self, obj: Any) -> str:
        """Where it was published to."""
        return _content(obj).exchange or "(default)"

    @admin.display(description="routing key")
    def routing_key(self, obj: Any) -> str:
        """What it was routed by."""
        return _content(obj).routing_key

    @admin.display(description="dead-lettered from")
    def died_in(self, obj: Any) -> str:
        """The queue in which it died last."""
        return _content(obj).died_in or "-"

    @admin.display(description="properties")
    def properties(self, obj: Any) -> str:
        """AMQP's properties."""
        return preformatted(_content(obj).properties)

    @admin.display(description="headers")
    def headers(self, obj: Any) -> str:
        """The application's headers."""
        return preformatted(_content(obj).headers)

    @admin.display(description="body")
    def body_text(self, obj: Any) -> str:
        """The body, as far as it may be shown."""
        return preformatted(_content(obj).body)

    @admin.action(description="Requeue: make ready again", permissions=["change"])
    def requeue_messages(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Give back what consumers have, and stop delays, after a question."""
        waiting = queryset.exclude(state=READY)
        if "confirmed" not in request.POST:
            return self.confirm(
                request,
                "requeue_messages",
                title="Requeue messages",
                text=f"Make {waiting.count()} messages ready that are delayed or with a consumer? "
                "A consumer that is still at work is not stopped, so they may be handled twice.",
            )
        done = requeue(queryset.db, list(waiting.values_list("id", flat=True)[:_MOST]))
        self.message_user(request, f"{done} messages are ready again.")
        return None

    @admin.action(description="Move to another queue", permissions=["change"])
    def move_messages(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Put messages at the end of another queue, after the question to which."""
        if "confirmed" not in request.POST:
            names = [record_of(one).name for one in queue_documents(queryset.db)]
            first = queryset.first()
            return self.confirm(
                request,
                "move_messages",
                title="Move messages",
                text=f"Move {queryset.count()} messages to the end of another queue? What "
                "consumers have stays where it is.",
                targets=names,
                proposed=inspect(first.queue, bytes(first.body)).died_in if first else "",
            )
        target = request.POST.get("target", "")
        if not self._may_see(request, target, queryset.db):
            raise PermissionDenied
        try:
            moved = move(queryset.db, list(queryset.values_list("id", flat=True)[:_MOST]), target)
        except KombuError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, f"{moved} messages were moved to {target}.")
        return None

    def _may_see(self, request: HttpRequest, queue: str, using: str) -> bool:
        """Whether a queue is one of those that were offered."""
        return bool(queue_documents(using).filter(name=queue_key(queue)).exists())


def _content(obj: Any) -> Content:
    found: Content | None = getattr(obj, "content", None)
    if found is None:
        found = obj.content = inspect(obj.queue, bytes(obj.body))
    return found


def _moment(micros: int) -> str:
    moment = localtime(datetime.fromtimestamp(micros / 1_000_000, UTC))
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
