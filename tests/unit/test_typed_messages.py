"""Bodies as the application's types: what fits, what does not, and which field is named."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from kombu_core import Connection, Consumer, Message, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    ContentTooLargeError,
    DecodeError,
    InvalidMessageError,
)
from kombu_core.typed_messages import reader_of

T = TypeVar("T")
Meters = NewType("Meters", float)
IDENT = UUID("12345678123456781234567812345678")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    name: str
    price: Decimal
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: int
    items: list[Item]
    color: Color | None = None
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.id < 0:
            raise ValueError("an id is not negative")


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    content: T


class Options(TypedDict):
    name: str
    size: NotRequired[int]


@attrs.define
class Car:
    wheels: int
    _secret: str = attrs.field(default="s")  # attrs calls the argument `secret`


class Struct(msgspec.Struct):
    a: int
    b: list[int] = []


class Model(pydantic.BaseModel):
    a: int
    b: list[int] = []


@dataclass
class Mixed:
    struct: Struct
    models: list[Model]


FITS: list[tuple[Any, Any, Any]] = [
    (int, 1, 1),
    (float, 1, 1.0),
    (Meters, 2.5, 2.5),
    (bool, True, True),
    (str, "x", "x"),
    (bytes, b"x", b"x"),
    (None, None, None),
    (Any, {"x": 1}, {"x": 1}),
    (datetime, "2030-01-31T12:00:00+00:00", datetime(2030, 1, 31, 12, tzinfo=UTC)),
    (date, date(2030, 1, 31), date(2030, 1, 31)),
    (date, "2030-01-31", date(2030, 1, 31)),
    (time, "12:30", time(12, 30)),
    (UUID, str(IDENT), IDENT),
    (Decimal, "1.10", Decimal("1.10")),
    (Decimal, 3, Decimal(3)),
    (Color, "red", Color.RED),
    (Literal["a", 1], 1, 1),
    (int | str, "x", "x"),
    (int | None, None, None),
    (Annotated[int, "units"], 1, 1),
    (list, [1, "a"], [1, "a"]),
    (list[int], (1, 2), [1, 2]),
    (Sequence[int], [1], [1]),
    (set[int], [1, 1], {1}),
    (frozenset[str], ["a"], frozenset("a")),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (dict, {"a": 1}, {"a": 1}),
    (Mapping[str, float], {"a": 1}, {"a": 1.0}),
    (Options, {"name": "n", "more": 1}, {"name": "n"}),
    (Box[int], {"content": "any"}, Box("any")),
    (Item, {"name": "n", "price": "1.5", "unknown": 1}, Item("n", Decimal("1.5"))),
    (Item, Item("n", Decimal(1)), Item("n", Decimal(1))),
    (
        Order,
        {"id": 1, "items": [{"name": "n", "price": 2}], "color": "blue"},
        Order(id=1, items=[Item("n", Decimal(2))], color=Color.BLUE),
    ),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (Car, {"wheels": 4, "_secret": "x"}, Car(4, "x")),
    (Struct, {"a": 1, "b": [2]}, Struct(1, [2])),
    (Model, {"a": 1, "b": [2]}, Model(a=1, b=[2])),
    (Mixed, {"struct": {"a": 1}, "models": [{"a": 2}]}, Mixed(Struct(1), [Model(a=2)])),
    (Item | Car, {"wheels": 3}, Car(3)),
]

MISFITS: list[tuple[Any, Any, str, str]] = [
    (int, True, "", "int is wanted, not bool"),
    (int, 1.0, "", "int is wanted, not float"),
    (int, "1", "", "int is wanted, not str"),
    (float, "1", "", "float is wanted"),
    (float, 10**400, "", "no float"),
    (bool, 1, "", "bool is wanted"),
    (str, b"x", "", "str is wanted"),
    (date, datetime(2030, 1, 31), "", "date is wanted"),  # noqa: DTZ001 (of no time zone)
    (datetime, "soon", "", "no datetime"),
    (UUID, "x", "", "no UUID"),
    (Decimal, "x", "", "no Decimal"),
    (Decimal, 1.5, "", "Decimal is wanted"),
    (Color, "green", "", "no Color"),
    (Color, [], "", "no Color"),
    (Literal["a", 1], True, "", "one of 'a', 1"),
    (int | str, 1.5, "", "int is wanted.*str is wanted"),
    (list[int], "ab", "", "a list is wanted, not str"),
    (list[int], [1, "a"], "[1]", "int is wanted"),
    (set[Any], [[]], "", "such items"),
    (tuple[int, str], [1], "", "a list of 2"),
    (tuple[int, str], [1, 2], "[1]", "str is wanted"),
    (dict[str, int], [], "", "a table is wanted"),
    (dict[str, int], {"a": "b"}, "['a']", "int is wanted"),
    (Options, {"size": 1}, "name", "missing"),
    (Options, {"name": "n", "size": "large"}, "size", "int is wanted"),
    (Item, [], "", "members of Item"),
    (Item, {"name": "n"}, "price", "missing"),
    (Order, {"id": 1, "items": [{"name": 1, "price": 1}]}, "items[0].name", "str is wanted"),
    (Order, {"id": -1, "items": []}, "", "Order refuses it: an id is not negative"),
    (Tree, {"value": 1, "children": [{"value": 2}, {}]}, "children[1].value", "missing"),
    (Car, {"wheels": "four"}, "wheels", "int is wanted"),
    (Struct, {"a": 1, "b": ["x"]}, "b[0]", "Expected `int`"),
    (Struct, {}, "", "missing required field `a`"),
    (Model, {"a": 1, "b": ["x"]}, "b[0]", "integer"),
    (Model, {}, "a", "required"),
    (Mixed, {"struct": {"a": "x"}, "models": []}, "struct.a", "Expected `int`"),
    (Mixed, {"struct": {"a": 1}, "models": [{"a": []}]}, "models[0].a", "integer"),
    (Item | Car, {"name": "n", "price": []}, "price", "Decimal is wanted"),
]


@pytest.mark.parametrize(("wanted", "value", "expected"), FITS, ids=repr)
def test_what_fits(wanted: Any, value: Any, expected: Any) -> None:
    found = reader_of(wanted)(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("wanted", "value", "where", "why"), MISFITS, ids=repr)
def test_what_does_not_fit_names_the_field(wanted: Any, value: Any, where: str, why: str) -> None:
    with pytest.raises(InvalidMessageError, match=why) as caught:
        reader_of(wanted)(value)
    assert caught.value.field == where
    assert str(caught.value).startswith(where)
    assert isinstance(caught.value, DecodeError)


@pytest.mark.parametrize("kind", [Item, Struct, Model, Order, Options, dict[str, int], UUID])
def test_no_value_of_the_body_is_quoted(kind: Any) -> None:
    secret = "hunter2"
    body = {"name": secret, "price": secret, "a": secret, "b": [secret], "id": secret, "items": 1}
    with pytest.raises(InvalidMessageError) as caught:
        reader_of(kind)(secret if kind is UUID else {**body, "size": secret})
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


class Opaque:
    pass


@dataclass
class Unknown:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821 (that is the test)


@pytest.mark.parametrize("wanted", [Opaque, list[Opaque], Unknown, "text", 1, complex], ids=repr)
def test_a_type_that_no_message_can_have_is_refused_at_once(wanted: Any) -> None:
    with pytest.raises(ConfigurationError):
        reader_of(wanted)


def test_a_body_too_deep_for_its_type_is_too_large() -> None:
    body: dict[str, Any] = {"value": 1}
    for _ in range(sys.getrecursionlimit()):
        body = {"value": 1, "children": [body]}
    with pytest.raises(ContentTooLargeError):
        reader_of(Tree)(body)


@pytest.fixture
def connection(token: str) -> Any:
    with Connection(f"memory://{token}") as connection:
        yield connection


def test_a_consumer_gets_its_type_and_errors_go_where_decode_errors_go(
    connection: Connection,
) -> None:
    bodies: list[Any] = []
    errors: list[Exception] = []

    def receive(body: Any, message: Message) -> None:
        assert message.payload is body
        bodies.append(body)
        message.ack()

    def refuse(message: Message, error: Exception) -> None:
        errors.append(error)
        message.reject()

    queue = Queue("orders")
    order = Order(id=7, items=[Item("n", Decimal("1.50"))])
    for serializer in ("json", "msgpack"):
        for body in (order, {"id": 1, "items": [{"name": "n"}]}):
            if serializer == "msgpack" and body is order:
                continue  # it has no decimals
            connection.Producer(serializer=serializer).publish(body, "orders", declare=[queue])
    with Consumer(connection, [queue], callbacks=[receive], on_decode_error=refuse, type=Order):
        for _ in range(3):
            connection.drain_events(timeout=1)
    assert bodies == [order]
    assert [str(error) for error in errors] == ["items[0].price: it is missing"] * 2


def test_without_a_handler_the_error_leaves_the_drain_and_the_message_stays(
    connection: Connection,
) -> None:
    queue = Queue("orders")
    connection.Producer().publish({"a": "x"}, "orders", declare=[queue])
    consumer = Consumer(connection, [queue], on_message=lambda m: m.payload, type=Model)
    with consumer, pytest.raises(InvalidMessageError, match=r"^a: "):
        connection.drain_events(timeout=1)
