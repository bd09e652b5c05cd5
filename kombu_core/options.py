"""A plugin's options: one frozen dataclass, filled from URL queries and `transport_options`."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as type_hints

from kombu_core.exceptions import ConfigurationError
from kombu_core.url import MASK, Secret, is_secret_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)
else:
    Options = TypeVar("Options")

_BOOLEANS: Final = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


def parse_options(
    options_class: type[Options], values: Mapping[str, Any], *, source: str
) -> Options:
    """Build an options dataclass from texts or native values, by its annotations.

    Texts become bool, int, float, str, Secret or one of a Literal. An empty text is None where
    None is allowed and the type is not str. A field of any other type takes native values as
    they are, and no text.

    Args:
        options_class: A dataclass; its own checks raise ValueError.
        values: By the names of its fields.
        source: Where the values are from, for errors: "the URL of the redis transport".

    Raises:
        ConfigurationError: A name is unknown, a required one is missing, or a value is bad; it
            names the key.
    """
    wanted = [item for item in fields(options_class) if item.init]
    names = [item.name for item in wanted]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ConfigurationError(
            f"{source}: unknown {_plural(unknown)} (known: {', '.join(sorted(names)) or 'none'})"
        )
    missing = [
        item.name
        for item in wanted
        if item.default is MISSING and item.default_factory is MISSING and item.name not in values
    ]
    if missing:
        raise ConfigurationError(f"{source}: missing {_plural(missing)}")
    hints = type_hints(options_class)
    native = {name: _coerce(hints[name], name, values[name], source) for name in values}
    try:
        return options_class(**native)
    except ConfigurationError:
        raise
    except ValueError as exc:
        raise ConfigurationError(f"{source}: {exc}") from exc


def _plural(names: list[str]) -> str:
    return f"option{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _coerce(hint: Any, name: str, value: Any, source: str) -> Any:
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    allows_none = type(None) in choices
    choices = tuple(choice for choice in choices if choice is not type(None))
    if value is None and allows_none:
        return None
    if value == "" and allows_none and str not in choices:
        return None
    for choice in choices:
        try:
            return _convert(choice, value)
        except ValueError:
            continue
    # What it is must not show if it may be a password, and no cause may hold it either.
    hidden = Secret in choices or is_secret_name(name) or not isinstance(value, str | int | float)
    shown = MASK if hidden and value is not None else repr(value)
    kinds = " or ".join(_describe(choice) for choice in choices)
    raise ConfigurationError(f"{source}: {name} is {shown}, which is not {kinds}") from None


def _convert(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if value == choice or value == str(choice):
                return choice
        raise ValueError
    converter = _CONVERTERS.get(kind)
    if converter is not None:
        return converter(value)
    if kind is Any:
        return value
    if isinstance(value, str):
        raise ValueError
    runtime = get_origin(kind) or kind
    if isinstance(runtime, type) and not isinstance(value, runtime):
        raise ValueError
    return value


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if kind in _NAMES:
        return _NAMES[kind]
    runtime = get_origin(kind) or kind
    return f"of type {runtime.__name__ if isinstance(runtime, type) else runtime}"


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise ValueError


def _to_int(value: Any) -> int:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return int(value)
    raise ValueError


def _to_float(value: Any) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError from None
        if math.isfinite(number):
            return number
    raise ValueError


def _to_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _to_secret(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    return Secret(_to_str(value))


_NAMES: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Secret: "a text",
}

_CONVERTERS: Final[dict[Any, Callable[[Any], Any]]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    Secret: _to_secret,
}
