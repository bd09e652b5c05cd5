"""Decoded bodies as instances of the application's types, or an error that names the field.

Dataclasses, classes of attrs and the types of `typing` are read here, by the rules below; classes
of msgspec and pydantic, wherever they stand, by their own package and its rules.

* A number is not text and text is no number, a boolean is neither, and an `int` passes for a
  `float`. Dates, times, UUIDs, decimals and enumerations may also come as the text or value that a
  serializer without such types has for them.
* Members that the type does not have are ignored: a publisher may be newer than its consumer.
* Lists pass for tuples and sets.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import partial
from importlib import import_module
from typing import Any, Final, Literal, NewType, TypeVar, Union, cast
from uuid import UUID

from kombu_core.exceptions import ConfigurationError, ContentTooLargeError, InvalidMessageError

#: Makes a value of its type from a decoded one; raises InvalidMessageError.
Reader = Callable[[Any], Any]


def reader_of(wanted: Any) -> Reader:
    """Return what makes instances of a type.

    What it returns raises InvalidMessageError. Any number of threads may use it.

    Raises:
        ConfigurationError: It is no type that can be read, or names one that is not known.
    """
    read = _Compiler().compile(wanted)

    def read_bounded(value: Any) -> Any:
        try:
            return read(value)
        except RecursionError:
            raise ContentTooLargeError("The body is nested too deeply for its type") from None

    return read_bounded


class _Compiler:
    """Turns types into readers; a class that contains itself is read by one reader."""

    def __init__(self) -> None:
        self._readers: dict[Any, Reader] = {}

    def compile(self, wanted: Any) -> Reader:
        if wanted is Any or wanted is object or isinstance(wanted, TypeVar):
            return lambda value: value
        if wanted is None:
            wanted = type(None)
        if isinstance(wanted, NewType):
            return self.compile(wanted.__supertype__)
        if type(wanted).__name__ == "TypeAliasType":  # `type X = ...`, since Python 3.12
            return self.compile(wanted.__value__)
        origin = typing.get_origin(wanted)
        arguments = typing.get_args(wanted)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final):
            return self.compile(arguments[0])
        if origin is Literal:
            return partial(_read_literal, arguments)
        if origin in (Union, types.UnionType):
            return partial(_read_union, [self.compile(each) for each in arguments])
        kind = wanted if origin is None else origin
        if not isinstance(kind, type):
            raise ConfigurationError(f"{wanted!r} is no type that a message can have")
        return self._of_class(kind, arguments)

    def _of_class(self, kind: type, arguments: tuple[Any, ...]) -> Reader:
        if kind in _SCALARS:
            return partial(_read_scalar, kind, _SCALARS[kind])
        if issubclass(kind, Enum):
            return partial(_read_enum, kind)
        if issubclass(kind, tuple) and not hasattr(kind, "_fields"):
            if arguments and arguments[-1] is not Ellipsis:
                return partial(_read_tuple, [self.compile(each) for each in arguments])
            return partial(_read_items, tuple, self.compile(arguments[0] if arguments else Any))
        for bases, make in _COLLECTIONS:
            if kind in bases:
                return partial(_read_items, make, self.compile(arguments[0] if arguments else Any))
        if kind in (dict, Mapping):
            key, item = arguments or (Any, Any)
            return partial(_read_mapping, self.compile(key), self.compile(item))
        return self._of_record(kind)

    def _of_record(self, kind: Any) -> Reader:
        if kind in self._readers:
            return lambda value: self._readers[kind](value)  # Perhaps it is not ready yet.
        if hasattr(kind, "__struct_fields__"):
            return partial(_read_by_msgspec, import_module("msgspec"), kind)
        if hasattr(kind, "__pydantic_validator__"):  # also of pydantic's own dataclasses
            pydantic = import_module("pydantic")
            return partial(_read_by_pydantic, pydantic, pydantic.TypeAdapter(kind).validate_python)
        self._readers[kind] = lambda value: value
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except Exception as exc:
            raise ConfigurationError(f"The types of {kind.__name__} cannot be read: {exc}") from exc
        if typing.is_typeddict(kind):
            make: Callable[..., Any] = dict
            # Its own keys are wrong where annotations are text.
            marks = {name: typing.get_origin(hint) for name, hint in hints.items()}
            required = {
                name
                for name, mark in marks.items()
                if (name in kind.__required_keys__ or mark is typing.Required)
                and mark is not typing.NotRequired
            }
            names = {name: name for name in hints}
        elif dataclasses.is_dataclass(kind):
            make = cast("Callable[..., Any]", kind)
            fields = [field for field in dataclasses.fields(kind) if field.init]
            absent = dataclasses.MISSING
            required = {f.name for f in fields if f.default is absent is f.default_factory}
            names = {field.name: field.name for field in fields}
        elif hasattr(kind, "__attrs_attrs__"):
            make = kind
            nothing = import_module("attrs").NOTHING
            attributes = [each for each in kind.__attrs_attrs__ if each.init]
            required = {each.name for each in attributes if each.default is nothing}
            names = {each.name: each.alias for each in attributes}
        else:
            raise ConfigurationError(
                f"{kind.__name__} is no type that a message can have: a dataclass, a class of "
                "attrs, msgspec or pydantic, a TypedDict, or one of Python's own types is"
            )
        members = {
            name: (alias, self.compile(hints.get(name, Any))) for name, alias in names.items()
        }
        read = partial(_read_record, kind.__name__, make, members, frozenset(required))
        self._readers[kind] = read
        return read


# -- single values ---------------------------------------------------------------------------


def _fail(wanted: str, value: Any) -> InvalidMessageError:
    # The type of what came, and never the value: it may be a secret.
    return InvalidMessageError("", f"{wanted} is wanted, not {type(value).__name__}")


def _decimal(text: str | int) -> Decimal:
    return Decimal(text)


#: Each with what else it may be made from, and how.
_SCALARS: Final[dict[type, tuple[tuple[type, Callable[[Any], Any]], ...]]] = {
    type(None): (),
    bool: (),
    int: (),
    float: ((int, float),),
    str: (),
    bytes: (),
    datetime: ((str, datetime.fromisoformat),),
    date: ((str, date.fromisoformat),),
    time: ((str, time.fromisoformat),),
    UUID: ((str, UUID),),
    Decimal: ((str, _decimal), (int, _decimal)),
}

#: Subclasses in Python that are something else to people.
_NARROWER: Final[dict[type, type]] = {int: bool, date: datetime}


def _read_scalar(
    kind: type, others: tuple[tuple[type, Callable[[Any], Any]], ...], value: Any
) -> Any:
    narrower = _NARROWER.get(kind)
    if isinstance(value, kind) and (narrower is None or not isinstance(value, narrower)):
        return value
    for other, make in others:
        if isinstance(value, other) and not isinstance(value, bool):
            try:
                return make(value)
            except (ValueError, OverflowError, InvalidOperation):
                raise InvalidMessageError("", f"this is no {kind.__name__}") from None
    raise _fail("None" if kind is type(None) else kind.__name__, value)


def _read_literal(choices: tuple[Any, ...], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise InvalidMessageError("", f"one of {', '.join(map(repr, choices))} is wanted")


def _read_enum(kind: type[Enum], value: Any) -> Any:
    try:
        return kind(value)
    except (ValueError, TypeError):
        raise InvalidMessageError("", f"this is no {kind.__name__}") from None


def _read_union(readers: Sequence[Reader], value: Any) -> Any:
    errors = []
    for read in readers:
        try:
            return read(value)
        except InvalidMessageError as error:
            errors.append(error)
    # The one that came deepest is most likely the one that was meant.
    deepest = max(errors, key=lambda error: error.field.count(".") + error.field.count("["))
    if deepest.field:
        raise deepest
    raise InvalidMessageError("", "; or ".join(error.reason for error in errors))


# -- values made of values -------------------------------------------------------------------

_COLLECTIONS: Final[tuple[tuple[tuple[Any, ...], Callable[..., Any]], ...]] = (
    ((list, Sequence), list),
    ((set, Set), set),
    ((frozenset,), frozenset),
)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _read_items(make: Callable[[list[Any]], Any], read: Reader, value: Any) -> Any:
    if not _is_list(value):
        raise _fail("a list", value)
    items = [_within(f"[{number}]", read, item) for number, item in enumerate(value)]
    try:
        return make(items)
    except TypeError:
        raise InvalidMessageError("", "a set cannot have such items") from None


def _read_tuple(readers: Sequence[Reader], value: Any) -> Any:
    if not _is_list(value) or len(value) != len(readers):
        raise InvalidMessageError("", f"a list of {len(readers)} items is wanted")
    pairs = zip(readers, value, strict=True)
    return tuple(_within(f"[{number}]", *pair) for number, pair in enumerate(pairs))


def _read_mapping(read_key: Reader, read_item: Reader, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _fail("a table", value)
    return {
        _within(f"[{key!r:.40}]", read_key, key): _within(f"[{key!r:.40}]", read_item, item)
        for key, item in value.items()
    }


def _read_record(
    name: str,
    make: Callable[..., Any],
    members: Mapping[str, tuple[str, Reader]],
    required: frozenset[str],
    value: Any,
) -> Any:
    if isinstance(make, type) and make is not dict and isinstance(value, make):
        return value  # By a serializer that carries objects.
    if not isinstance(value, dict):
        raise _fail(f"a table of the members of {name}", value)
    arguments = {}
    for member, (alias, read) in members.items():
        if member in value:
            arguments[alias] = _within(f".{member}", read, value[member])
        elif member in required:
            raise InvalidMessageError(f".{member}", "it is missing")
    try:
        return make(**arguments)
    except (TypeError, ValueError) as exc:
        # The class has rules of its own, and they say what is wrong.
        raise InvalidMessageError("", f"{name} refuses it: {exc}") from exc


def _within(step: str, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except InvalidMessageError as error:
        dot = "." if error.field and not error.field.startswith("[") else ""
        raise InvalidMessageError(f"{step}{dot}{error.field}", error.reason) from error.__cause__


# -- other packages --------------------------------------------------------------------------


def _read_by_msgspec(msgspec: Any, kind: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at `")
        raise InvalidMessageError(path.rstrip("`").removeprefix("$"), reason) from None


def _read_by_pydantic(pydantic: Any, validate: Reader, value: Any) -> Any:
    try:
        return validate(value)
    except pydantic.ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in found[0]["loc"])
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        # Its own text quotes the body, so it is not chained.
        raise InvalidMessageError("".join(steps), found[0]["msg"] + more) from None
