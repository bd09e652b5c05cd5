"""A column for names, compared byte by byte on every database; and the time by its clock."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

#: InnoDB indexes at most 3072 bytes.
_NAME_BYTES: Final = 1100


class NameField(models.Field):
    """A text of any length that is equal to no other: case and spaces at its end count.

    Args:
        size: Bytes that MariaDB, MySQL and Oracle keep at most.
    """

    description = "Name, compared byte by byte"

    def __init__(self, *args: Any, size: int = _NAME_BYTES, **kwargs: Any) -> None:
        self.size = size
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.size != _NAME_BYTES:
            kwargs["size"] = self.size
        return name, path, args, kwargs

    def db_type(self, connection: Any) -> str:
        if connection.vendor == "postgresql":
            return 'character varying COLLATE "C"'
        if connection.vendor == "mysql":
            return f"varbinary({self.size})"
        if connection.vendor == "oracle":
            return f"varchar2({self.size})"
        return "text"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        if isinstance(value, str) and connection.vendor == "mysql":
            return value.encode()
        return value

    def from_db_value(self, value: Any, expression: object, connection: object) -> Any:
        """Return it as text."""
        return value.decode() if isinstance(value, bytes) else value

    def to_python(self, value: Any) -> Any:
        return value if value is None or isinstance(value, str) else str(value)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"max_length": self.size, **kwargs})


class Micros(models.Func):
    """The database's time as microseconds since 1970, the same in all of one statement."""

    output_field = models.BigIntegerField()

    def as_sql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, list[Any]]:
        return CLOCKS[connection.vendor], []


#: By vendor. SQLite's clock is the host's and counts milliseconds.
CLOCKS: Final = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    "oracle": (
        "ROUND((CAST(SYS_EXTRACT_UTC(SYSTIMESTAMP) AS DATE) - DATE '1970-01-01') * 86400000000)"
    ),
}
