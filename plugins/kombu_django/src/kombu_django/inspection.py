"""A message's content as text that may be shown: bounded, printable, redacted.

It is no HTML: escape it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kombu_core.message import Malformed
from kombu_core.virtual.envelope import decode
from kombu_django.configuration import redaction

#: Characters that are shown of a body, and of its headers.
_LONGEST: Final = 20_000
#: Bytes that are shown of what is no text.
_BYTES: Final = 512
REDACTED: Final = "(redacted)"


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a message."""

    exchange: str
    routing_key: str
    properties: str
    headers: str
    body: str
    #: The queue in which it was dead-lettered last, or nothing.
    died_in: str


def inspect(queue: str, raw: bytes) -> Content:
    """Return what is in the bytes of a row. Raises nothing for any bytes."""
    found = decode(raw)
    if isinstance(found, Malformed):
        return Content("", "", "", f"({found.reason})", _shown(queue, raw), "")
    headers = dict(found.headers)
    return Content(
        found.exchange,
        found.routing_key,
        _as_json(queue, dict(found.properties)),
        _as_json(queue, headers),
        _shown(queue, found.body),
        _died_in(headers),
    )


def _died_in(headers: dict[str, Any]) -> str:
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    return str(last.get("queue", "")) if isinstance(last, dict) else ""


def _as_json(queue: str, value: dict[str, Any]) -> str:
    if not value:
        return ""
    return shown(queue, json.dumps(value, default=_plain, indent=1, ensure_ascii=False))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def _shown(queue: str, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = ""
    if text and all(one.isprintable() or one in "\r\n\t" for one in text[:_LONGEST]):
        return shown(queue, text)
    if not raw:
        return ""
    if redaction() is not None:
        return REDACTED  # What made no text cannot be redacted in part.
    rest = f" … {len(raw) - _BYTES} bytes more" if len(raw) > _BYTES else ""
    return raw[:_BYTES].hex(" ") + rest


def shown(queue: str, text: str) -> str:
    """Return as much of a text as may be shown of a queue."""
    redact = redaction()
    if redact is not None:
        text = redact(queue, text) or REDACTED
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … {len(text) - _LONGEST} more"
