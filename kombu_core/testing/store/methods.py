"""What methods a store has to have, and which of them are not written yet."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, Final

from kombu_core.virtual.store import Store

#: In the order in which they are best written.
METHODS: Final = (
    "read", "write", "scan",
    "begin", "renew", "end",
    "commit", "claim", "count", "purge", "wait", "reap",
    "close",
)  # fmt: skip

#: Where to read on, in the documentation of kombu_core.
GUIDE: Final = "docs/write-a-transport.md"


def unwritten(store_class: type) -> list[str]:
    """Return the methods that a class lacks, or that do nothing but raise NotImplementedError."""
    return [name for name in METHODS if not _is_written(getattr(store_class, name, None))]


def describe(name: str) -> str:
    """Return a method's signature and obligations, and where there is more about it."""
    specified = getattr(Store, name)
    text = inspect.cleandoc(specified.__doc__ or "")
    signature = str(inspect.signature(specified)).replace("'", "")
    return f"def {name}{signature}\n\n{text}\n\nMore: the section `{name}` of {GUIDE}"


def call_form(function: Callable[..., Any]) -> list[tuple[str, bool]]:
    """Return the names of a method's parameters without self, and whether each may be left out."""
    parameters = [*inspect.signature(function).parameters.values()]
    return [
        (each.name, each.default is not each.empty) for each in parameters if each.name != "self"
    ]


def _is_written(function: Any) -> bool:
    if function is None:
        return False
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):  # It is no function of Python's; so somebody wrote it.
        return True
    (definition, *_) = ast.parse(source).body
    if not isinstance(definition, ast.FunctionDef):
        return True
    match [each for each in definition.body if not _is_text(each)]:
        case [ast.Raise(exc=ast.Name("NotImplementedError"))]:
            return False
        case [ast.Raise(exc=ast.Call(func=ast.Name("NotImplementedError")))]:
            return False
        case [] | [ast.Pass()]:
            return False
    return True


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
