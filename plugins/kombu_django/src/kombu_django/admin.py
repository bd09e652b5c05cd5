"""The admin: queues with what is in them, and messages to look at, requeue, move and delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from kombu_core.exceptions import KombuError
from kombu_core.virtual.tables import MAX_PRIORITY, READY
from kombu_core.virtual.topology import queue_key
from kombu_django.inspection import Content, inspect
from kombu_django.models import Message, Queue
from kombu_django.operations import move, purge, requeue
from kombu_django.overview import (
    PREFIX,
    QUARANTINE,
    QueueOverview,
    look,
    queue_documents,
    record_of,
)
from kombu_django.queries import text_after

#: Messages that one action settles in one go.
_MOST: Final = 10_000


class _ReadOnly(admin.ModelAdmin):
    """Rows are made by publishing and changed by actions, never by a form."""

    actions_on_bottom = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        title = str(self.model._meta.verbose_name_plural).capitalize()
        response: HttpResponse = super().changelist_view(
            request, {"title": title, **(extra_context or {})}
        )
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {
            "title": str(self.model._meta.verbose_name).capitalize(),
            "show_save": False,
            "show_save_and_continue": False,
        }
        response: HttpResponse = super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )
        return response

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return tuple(self.fields)

    def confirm(
        self, request: HttpRequest, action: str, *, title: str, text: str, **context: Any
    ) -> TemplateResponse:
        """Ask before an action is done; the answer calls it again with `confirmed`."""
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            "kombu_django/confirm.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "text": text,
                "opts": self.model._meta,
                "action": action,
                "selected": request.POST.getlist(admin.helpers.ACTION_CHECKBOX_NAME),
                "select_across": request.POST.get("select_across", "0"),
                **context,
            },
        )


class _QueueList(ChangeList):
    """Looks into all queues of a page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        queues: list[Any] = list(self.result_list)
        records = [record_of(queue) for queue in queues]
        using = self.root_queryset.db
        found = {overview.name: overview for overview in look(using, records)}
        for queue, record in zip(queues, records, strict=True):
            queue.overview = found[record.name]
        self.result_list: Any = queues


@admin.register(Queue)
class QueueAdmin(_ReadOnly):
    """Depth, oldest message and consumers of each queue; purging."""

    list_display = ("queue", "ready", "delayed", "unacknowledged", "oldest", "consumers")
    list_display_links = ("queue",)
    search_fields = ("name",)
    ordering = ("name",)
    actions = ("purge_queues",)
    fields = (
        "queue", "ready", "delayed", "unacknowledged", "oldest", "consumers", "arguments", "browse",
    )  # fmt: skip
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        return found.filter(name__gte=PREFIX, name__lt=text_after(PREFIX))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """Find names that contain a text, wherever the database can look for it."""
        if search_term:
            names = [
                document.name
                for document in queryset
                if search_term.lower() in record_of(document).name.lower()
            ]
            queryset = queryset.filter(name__in=names)
        return queryset, False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _QueueList

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            (found.overview,) = [
                one for one in look(found._state.db, [record_of(found)]) if one.record is not None
            ]
        return found

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        using = self.get_queryset(request).db
        if Message.objects.using(using).filter(queue=QUARANTINE).exists():
            text = format_html(
                'Some messages could not be decoded: <a href="{}">look at them</a>.',
                _messages_url(QUARANTINE),
            )
            self.message_user(request, text, messages.WARNING)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    @admin.display(description="queue", ordering="name")
    def queue(self, obj: Any) -> str:
        """Its name."""
        return _overview(obj).name

    @admin.display(description="ready")
    def ready(self, obj: Any) -> int:
        """What could be delivered now."""
        return _overview(obj).ready

    @admin.display(description="delayed")
    def delayed(self, obj: Any) -> int:
        """What could be delivered later."""
        return _overview(obj).delayed

    @admin.display(description="unacknowledged")
    def unacknowledged(self, obj: Any) -> int:
        """What consumers have."""
        return _overview(obj).claimed

    @admin.display(description="oldest message", empty_value="-")
    def oldest(self, obj: Any) -> str | None:
        """The age of the oldest message that no consumer has."""
        age = _overview(obj).oldest
        if age is None:
            return None
        if age < 120:
            return f"{age:.0f} s"
        moment = datetime.now(UTC)
        return str(timesince(moment - timedelta(seconds=age), moment))

    @admin.display(description="consumers")
    def consumers(self, obj: Any) -> int:
        """How many there are."""
        return len(_overview(obj).consumers)

    @admin.display(description="declared as")
    def arguments(self, obj: Any) -> str:
        """What it was declared with."""
        record = record_of(obj)
        flags = [name for name in ("durable", "auto_delete") if getattr(record, name)]
        given = [f"{name}={value!r}" for name, value in sorted(record.arguments.items())]
        return ", ".join([*flags, *(["exclusive"] if record.owner else []), *given]) or "-"

    @admin.display(description="messages")
    def browse(self, obj: Any) -> str:
        """The way to its messages."""
        return str(format_html('<a href="{}">Browse</a>', _messages_url(_overview(obj).name)))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_purge_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may delete messages."""
        return bool(request.user.has_perm("kombu_django.delete_message"))

    @admin.action(description="Purge: delete all ready messages", permissions=["purge"])
    def purge_queues(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Empty queues, after a question."""
        queues = list(queryset)
        names = [record_of(queue).name for queue in queues]
        if "confirmed" not in request.POST:
            waiting = sum(one.ready for one in look(queryset.db, map(record_of, queues)))
            return self.confirm(
                request,
                "purge_queues",
                title="Purge queues",
                text=f"Delete {waiting} ready messages of {', '.join(names)}? They are lost then. "
                "What consumers have already is not touched.",
            )
        for queue, name in zip(queues, names, strict=True):
            deleted = purge(queryset.db, name)
            self.log_change(request, queue, f"Purged: {deleted} messages deleted")
            self.message_user(request, f"{deleted} messages of {name} were deleted.")
        return None


def _overview(obj: Any) -> QueueOverview:
    found: QueueOverview = obj.overview
    return found


def _messages_url(queue: str) -> str:
    return f"{reverse('admin:kombu_django_message_changelist')}?{urlencode({'queue': queue})}"


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


@admin.register(Message)
class MessageAdmin(_ReadOnly):
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
        return _preformatted(_content(obj).properties)

    @admin.display(description="headers")
    def headers(self, obj: Any) -> str:
        """The application's headers."""
        return _preformatted(_content(obj).headers)

    @admin.display(description="body")
    def body_text(self, obj: Any) -> str:
        """The body, as far as it may be shown."""
        return _preformatted(_content(obj).body)

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


def _preformatted(text: str) -> str:
    return (
        "-"
        if not text
        else str(format_html('<pre style="white-space: pre-wrap; margin: 0">{}</pre>', text))
    )


def _moment(micros: int) -> str:
    moment = localtime(datetime.fromtimestamp(micros / 1_000_000, UTC))
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
