"""What the pages of the admin have in common: nothing is edited, and actions ask first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html


class ReadOnlyAdmin(admin.ModelAdmin):
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


def preformatted(text: str) -> str:
    """Return HTML that shows a text as it is."""
    return (
        "-"
        if not text
        else str(format_html('<pre style="white-space: pre-wrap; margin: 0">{}</pre>', text))
    )
