"""The admin's pages of the results of tasks."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin

from kombu_django.admin_pages import ReadOnlyAdmin, preformatted
from kombu_django.configuration import task_queue
from kombu_django.inspection import shown


class TaskRecordAdmin(ReadOnlyAdmin):
    """Results: how tasks ended, with what, and who ran them. What is shown is redacted."""

    list_display = ("id", "task", "status", "attempts", "enqueued_at", "finished_at")
    list_filter = ("status", "backend", "queue_name")
    search_fields = ("id", "task")
    ordering = ("-enqueued_at", "id")
    list_per_page = 50
    show_full_result_count = False
    fields = (
        "id", "task", "status", "arguments", "returned", "tracebacks", "attempts", "workers",
        "backend", "queue_name", "priority", "run_after", "enqueued_at", "started_at",
        "last_attempted_at", "finished_at", "expires_at",
    )  # fmt: skip

    @admin.display(description="attempts")
    def attempts(self, obj: Any) -> int:
        """How often it began."""
        return len(json.loads(obj.worker_ids))

    @admin.display(description="workers")
    def workers(self, obj: Any) -> str:
        """Who ran it."""
        return ", ".join(json.loads(obj.worker_ids)) or "-"

    @admin.display(description="arguments")
    def arguments(self, obj: Any) -> str:
        """What it is called with."""
        called = {"task": obj.task, "args": json.loads(obj.args), "kwargs": json.loads(obj.kwargs)}
        return _as_json(obj, called)

    @admin.display(description="return value")
    def returned(self, obj: Any) -> str:
        """What it returned, if it ended well."""
        if obj.status != "SUCCESSFUL":
            return "-"
        return _as_json(obj, json.loads(obj.return_value))

    @admin.display(description="errors")
    def tracebacks(self, obj: Any) -> str:
        """What it raised, at each attempt."""
        text = "\n".join(traceback for _, traceback in json.loads(obj.errors))
        return _text(obj, text)


def _as_json(obj: Any, value: Any) -> str:
    return _text(obj, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _text(obj: Any, text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()  # A page takes no lone surrogates.
    # By the same name as its message was, so that one redaction does for both.
    return preformatted(shown(task_queue(obj.backend, obj.queue_name), text))
