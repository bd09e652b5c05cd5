"""Objects that are made of named members, whoever made their class: their members as a dict."""

from __future__ import annotations

import dataclasses
from typing import Any


def members_of(value: object) -> dict[str, Any] | None:
    """Return the members of a record by name, None if it is none.

    Records are instances of dataclasses and of classes of attrs, msgspec and pydantic. The members
    are not copied, and records among them stay what they are.
    """
    kind: Any = type(value)
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    for attribute in ("__attrs_attrs__", "__struct_fields__"):
        fields = getattr(kind, attribute, None)
        if fields is not None:
            names = (field if isinstance(field, str) else field.name for field in fields)
            return {name: getattr(value, name) for name in names}
    if isinstance(getattr(kind, "model_fields", None), dict):
        return {name: getattr(value, name) for name in kind.model_fields}
    return None
