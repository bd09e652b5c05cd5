"""The admin's pages of queues: what is in them, purging and deleting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.timesince import timesince

from kombu_core.exceptions import KombuError
from kombu_django.admin_pages import ReadOnlyAdmin
from kombu_django.models import Message
from kombu_django.operations import delete, purge
from kombu_django.overview import PREFIX, QUARANTINE, QueueOverview, look, record_of
from kombu_django.queries import text_after


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


class QueueAdmin(ReadOnlyAdmin):
    """Depth, oldest message and consumers of each queue; purging and deleting."""

    list_display = ("queue", "ready", "delayed", "unacknowledged", "oldest", "consumers")
    list_display_links = ("queue",)
    search_fields = ("name",)
    ordering = ("name",)
    actions = ("purge_queues", "delete_queues")
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

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may delete queues, with what is in them."""
        return self.has_purge_permission(request) and bool(
            request.user.has_perm("kombu_django.delete_queue")
        )

    @admin.action(description="Delete with all messages", permissions=["remove"])
    def delete_queues(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Delete queues, after a question that tells what is lost, and who is disturbed."""
        queues = {record_of(queue).name: queue for queue in queryset}
        found = look(queryset.db, map(record_of, queues.values()))
        chosen = [one for one in found if one.name in queues]
        if "confirmed" not in request.POST:
            return self.confirm(
                request,
                "delete_queues",
                title="Delete queues",
                text=f"Delete {', '.join(queues)}? Their bindings go with them, and what is "
                "published to them has no place to go.",
                warnings=[text for one in chosen for text in _losses(one)],
                agreements={
                    name: text
                    for name, text, counts in (
                        ("even_full", "Delete the messages, too", any(map(_all, chosen))),
                        ("even_used", "Cancel the consumers", any(c.consumers for c in chosen)),
                    )
                    if counts
                },
            )
        even_full, even_used = "even_full" in request.POST, "even_used" in request.POST
        for one in chosen:
            if _all(one) and not even_full:
                self.message_user(request, f"The queue {one.name} has messages.", messages.ERROR)
                continue
            try:
                # What came since the question was asked is asked for again.
                delete(queryset.db, one.name, if_empty=not even_full, if_unused=not even_used)
            except KombuError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.log_change(request, queues[one.name], "Deleted")
                self.message_user(request, f"The queue {one.name} was deleted.")
        return None


def _all(overview: QueueOverview) -> int:
    return overview.ready + overview.delayed + overview.claimed


def _losses(overview: QueueOverview) -> list[str]:
    """Return what is to be known before a queue is deleted."""
    found = []
    if _all(overview):
        found.append(
            f"{overview.name} has {overview.ready} ready, {overview.delayed} delayed and "
            f"{overview.claimed} unacknowledged messages. They are lost then."
        )
    if overview.consumers:
        found.append(f"{overview.name} has consumers: {len(overview.consumers)}.")
    return found


def _overview(obj: Any) -> QueueOverview:
    found: QueueOverview = obj.overview
    return found


def _messages_url(queue: str) -> str:
    return f"{reverse('admin:kombu_django_message_changelist')}?{urlencode({'queue': queue})}"
