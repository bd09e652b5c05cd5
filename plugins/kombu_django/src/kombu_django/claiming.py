"""Claiming and acknowledging by one statement each, where an UPDATE returns what it changed.

The models need several for a claim, and build each of them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

from django.db import connections

from kombu_core.virtual.tables import CLAIMED, READY, Bound, Taken
from kombu_django.fields import CLOCKS
from kombu_django.models import Message, Session
from kombu_django.statements import rows, table_of


class _Words(NamedTuple):
    """What a database says in its own way."""

    #: A list of numbers that is one parameter.
    ids: str
    #: The two ends of a list that a SELECT makes.
    begin: str
    end: str
    #: At the end of a SELECT: others may lock its rows so, too; others skip its rows.
    share: str = ""
    skip: str = ""


_WORDS: Final = {
    "postgresql": _Words(
        "= ANY(CAST(%s AS bigint[]))",
        "= ANY(ARRAY(",
        "))",
        " FOR SHARE",
        " FOR UPDATE SKIP LOCKED",
    ),
    # It takes its lock before anything is read.
    "sqlite": _Words("IN (SELECT value FROM json_each(%s))", "IN (", ")"),
}


def is_known(vendor: str) -> bool:
    """Tell whether a kind of database is one of these."""
    return vendor in _WORDS


def claim(
    using: str,
    queue: str,
    session: str,
    limit: int,
    before: Bound | None = None,
    *,
    is_guarded: bool = True,
) -> list[Taken]:
    """See `kombu_core.virtual.tables.Queries.claim`."""
    connection = connections[using]
    tables = table_of(connection, Message), table_of(connection, Session)
    text = _claim(connection.vendor, *tables, is_bounded=before is not None, is_guarded=is_guarded)
    guarded = [queue] * is_guarded
    found = rows(using, text, [session, queue, session, *guarded, limit, *(before or ())])
    return [
        Taken(id_, level, deliveries, bool(is_expired), bytes(body))
        for level, _, id_, deliveries, is_expired, body in sorted(found)
    ]


@cache
def _claim(vendor: str, messages: str, sessions: str, *, is_bounded: bool, is_guarded: bool) -> str:
    words, clock = _WORDS[vendor], CLOCKS[vendor]
    guard = (
        f"AND NOT EXISTS (SELECT 1 FROM {messages} WHERE queue = %s AND available_at <= {clock})"
    )
    ready = f"""FROM {messages} WHERE queue = %s AND state = {READY}
  AND EXISTS (SELECT 1 FROM {sessions}
    WHERE name = %s AND NOT lapsed AND lease_end > {clock}{words.share})
  {guard if is_guarded else ""}
  ORDER BY level, place, id LIMIT %s"""
    chosen = f"SELECT id {ready}"
    if is_bounded:
        # All that is before a fresh one is at the head: nothing else is looked at.
        ahead = f"""SELECT id FROM (SELECT id, level, place, expires_at {ready}) AS head
  WHERE expires_at <= {clock} AND (level, place, id) <
    (CAST(%s AS bigint), CAST(%s AS bigint), CAST(%s AS bigint))"""
        chosen = f"""SELECT id FROM {messages} WHERE state = {READY} AND id {words.begin}
  {ahead}{words.end}"""
    return f"""
UPDATE {messages} SET state = {CLAIMED}, claimed_by = %s WHERE id {words.begin}
  {chosen}{words.skip}
{words.end}
RETURNING level, place, id, deliveries, expires_at <= {clock}, body
"""


def acknowledge(using: str, ids: Iterable[int], session: str) -> int:
    """See `kombu_core.virtual.tables.Queries.acknowledge`."""
    connection = connections[using]
    chosen = _WORDS[connection.vendor].ids
    named = sorted(ids)
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table_of(connection, Message)} WHERE id {chosen} AND claimed_by = %s",
            [json.dumps(named) if connection.vendor == "sqlite" else named, session],
        )
        return int(cursor.rowcount)
