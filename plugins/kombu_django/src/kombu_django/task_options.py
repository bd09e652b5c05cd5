"""The options of a backend of tasks: what is wrong with them. Nothing here needs the framework."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.checks import Error
from django.db import connections

from kombu_core.exceptions import ConfigurationError, KombuError
from kombu_core.options import parse_options
from kombu_core.plugins import default_plugins
from kombu_core.url import scheme_of
from kombu_django.options import DjangoOptions

#: What TASKS calls the backend.
BACKEND: Final = "kombu_django.task_backend.KombuBackend"

_KNOWN: Final = frozenset({"URL", "TRANSPORT_OPTIONS", "PREFIX", "RESULTS", "RESULT_EXPIRES"})


def problems(alias: str, options: Any) -> list[Error]:
    """Return what is wrong with the options of a backend; connects to nothing.

    Args:
        alias: Of the backend.
        options: What TASKS has for it as OPTIONS.
    """
    place = f"TASKS[{alias!r}]"
    if not isinstance(options, Mapping):
        return [Error(f"{place}: OPTIONS has to be a dict", id="kombu_django.E006")]
    return [
        *_names(place, options),
        *_broker(place, options),
        *_results(place, options),
    ]


def _names(place: str, options: Mapping[str, Any]) -> Iterator[Error]:
    unknown = sorted(set(map(str, options)) - _KNOWN)
    if unknown:
        yield Error(
            f"{place} has unknown options: {', '.join(unknown)}",
            hint=f"It knows {', '.join(sorted(_KNOWN))}.",
            id="kombu_django.E006",
        )
    if not isinstance(options.get("PREFIX", ""), str):
        yield Error(f"{place}: PREFIX has to be a text", id="kombu_django.E011")


def _broker(place: str, options: Mapping[str, Any]) -> Iterator[Error]:
    url = options.get("URL", "django://")
    if not isinstance(url, str):
        yield Error(f"{place}: URL has to be a text", id="kombu_django.E007")
        return
    try:
        scheme = scheme_of(url)
        default_plugins.transport_class(scheme)
    except KombuError as error:
        yield Error(f"{place}: URL: {error}", id="kombu_django.E007")
        return
    given = options.get("TRANSPORT_OPTIONS", {})
    if not isinstance(given, Mapping):
        yield Error(f"{place}: TRANSPORT_OPTIONS has to be a dict", id="kombu_django.E012")
    elif scheme == "django":
        try:
            parse_options(DjangoOptions, given, source=f"{place}: TRANSPORT_OPTIONS")
        except ConfigurationError as error:
            yield Error(str(error), id="kombu_django.E012")


def _results(place: str, options: Mapping[str, Any]) -> Iterator[Error]:
    kept = options.get("RESULTS", True)
    if not (isinstance(kept, bool) or (isinstance(kept, str) and kept in connections.settings)):
        yield Error(
            f"{place}: RESULTS is {kept!r}, which DATABASES has not",
            hint="It is True, False or the alias of a database.",
            id="kombu_django.E009",
        )
    expires = options.get("RESULT_EXPIRES")
    if expires is not None and not (
        isinstance(expires, int | float) and math.isfinite(expires) and expires >= 0
    ):
        yield Error(
            f"{place}: RESULT_EXPIRES is {expires!r}, which is no number of seconds",
            id="kombu_django.E010",
        )
