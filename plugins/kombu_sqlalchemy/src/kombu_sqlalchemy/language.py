"""How statements are written: one text for all databases, with the places where they differ named.

Each method that runs something does so on the connection that it is given, and neither begins nor
ends a transaction: so the application's own may be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from sqlalchemy import Connection, TextClause, bindparam, text

from kombu_sqlalchemy.schema import CLOCKS, Tables


class Language:
    """How statements are written for one database, and run.

    In the texts `{messages}` and so on are the tables, `{now}` is the time, `{among:NAME}` tests
    for membership in a parameter that `among` made, and `{each:NAME}` is what `each` made, as a
    table `j(q)`.
    """

    #: Ends of a SELECT that lock what it finds; skip: without waiting for those who did before.
    share: ClassVar[str] = ""
    update: ClassVar[str] = ""
    skip: ClassVar[str] = ""
    #: Whether a list of parameters is written out when it is known.
    expands: ClassVar[bool] = False

    def __init__(self, tables: Tables, dialect: str) -> None:
        #: Name of the table of messages.
        self.table = tables.messages.fullname
        self._names = {
            "documents": tables.documents.fullname,
            "messages": tables.messages.fullname,
            "sessions": tables.sessions.fullname,
            "meta": tables.meta.fullname,
            "handled": tables.handled.fullname,
            "now": CLOCKS[dialect],
            "share": self.share,
            "update": self.update,
            "skip": self.skip,
        }
        self.sql = lru_cache(256)(self._statement)

    # -- how a database says it ------------------------------------------------------------

    def among(self, values: Iterable[Any]) -> Any:
        """Return what is bound where a text has `{among:NAME}`."""
        raise NotImplementedError

    def each(self, values: Iterable[Any]) -> Any:
        """Return what is bound where a text has `{each:NAME}`."""
        return self.among(values)

    def fragment(self, kind: str, name: str) -> str:
        """Return the text for `{among:NAME}` or `{each:NAME}`."""
        raise NotImplementedError

    def _statement(self, template: str) -> TextClause:
        lists: list[str] = []
        parts = template.split("{")
        for position, part in enumerate(parts[1:], 1):
            field, _, rest = part.partition("}")
            kind, colon, name = field.partition(":")
            if colon:
                lists += [name] if kind == "among" else []
                parts[position] = self.fragment(kind, name) + rest
            else:
                parts[position] = self._names[field] + rest
        found = text("".join(parts))
        if lists and self.expands:
            found = found.bindparams(*(bindparam(name, expanding=True) for name in lists))
        return found

    def rows(self, connection: Connection, template: str, **parameters: Any) -> Sequence[Any]:
        """Run a statement and return its rows."""
        return connection.execute(self.sql(template), parameters).fetchall()

    def change(self, connection: Connection, template: str, **parameters: Any) -> int:
        """Run a statement and return how many rows it changed."""
        return connection.execute(self.sql(template), parameters).rowcount

    @staticmethod
    def name(value: Any) -> str:
        """Return a name as the database gave it."""
        return value.decode() if isinstance(value, bytes) else str(value)
