"""Exchanges, queues and bindings as documents: keys, forms, and AMQP's rules about them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core.exceptions import (
    AccessRefusedError,
    PreconditionFailedError,
    ResourceLockedError,
)
from kombu_core.virtual.routing import Destination
from kombu_core.virtual.topology import (
    LOG_LENGTH,
    ConsumerRecord,
    ExchangeRecord,
    QueueRecord,
    binding_from_json,
    binding_key,
    binding_to_json,
    bindings_prefix,
    check_access,
    check_equivalent,
    check_name_is_free,
    check_not_default,
    consumers_key,
    dump,
    exchange_key,
    load_binding,
    load_consumers,
    load_exchange,
    load_queue,
    make_binding,
    mark_of,
    queue_key,
    session_mark,
    session_prefix,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
QUEUE = Destination("queue", "q")


# -- keys ------------------------------------------------------------------------------------


@given(names, names)
def test_no_two_things_share_a_key(one: str, other: str) -> None:
    keys = [
        make(name)
        for name in {one, other}
        for make in (exchange_key, queue_key, consumers_key, bindings_prefix, session_prefix)
    ]
    assert len(set(keys)) == len(keys)


@given(names, names)
def test_the_prefix_of_one_name_is_none_of_another(one: str, other: str) -> None:
    for make in (
        bindings_prefix,
        session_prefix,
        lambda name: bindings_prefix("e", Destination("queue", name)),
    ):
        assert make(one).startswith(make(other)) is (one == other)
    assert not bindings_prefix(one, QUEUE).startswith(
        bindings_prefix(one, Destination("exchange", "q"))
    )


@given(names, names, st.sampled_from(["queue", "consumers"]))
def test_a_mark_tells_kind_and_queue(session: str, queue: str, kind: Any) -> None:
    prefix = session_prefix(session)
    mark = session_mark(session, kind, queue)
    assert mark.startswith(prefix)
    assert mark_of(mark.removeprefix(prefix)) == (kind, queue)


# -- document form ---------------------------------------------------------------------------


def test_records_come_back_as_they_were() -> None:
    binding = make_binding(QUEUE, "k", {"x-match": "any", "n": [1, None]})
    exchange = ExchangeRecord(
        "e",
        "topic",
        False,
        True,
        True,
        {"a": 1},
        "b1",
        ("s",),
        3,
        (("+", binding_to_json(binding)),),
    )
    queue = QueueRecord("q", True, False, "s", {"x-expires": 5}, ("e", "f"))
    consumers = [ConsumerRecord("s", 1, "t"), ConsumerRecord("s", 2, "u", True, 5)]
    assert load_exchange(dump(exchange)) == exchange
    assert load_queue(dump(queue)) == queue
    assert load_binding(dump(binding)) == binding == binding_from_json(binding_to_json(binding))
    assert load_consumers(dump(consumers)) == consumers
    assert load_consumers(b"") == []
    assert load_queue(dump(QueueRecord("ü/\n"))).name == "ü/\n"


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}])
def test_arguments_that_no_document_can_hold_are_refused(value: object) -> None:
    with pytest.raises(PreconditionFailedError, match="cannot be stored"):
        dump(QueueRecord("q", arguments={"a": value}))
    with pytest.raises(PreconditionFailedError, match="cannot be stored"):
        make_binding(QUEUE, "", {"a": value})


def test_bindings_have_one_id_if_they_are_equal() -> None:
    one = make_binding(QUEUE, "k", {"a": 1, "b": 2})
    assert make_binding(QUEUE, "k", {"b": 2, "a": 1}) == one
    assert binding_key("e", one) == f"{bindings_prefix('e', QUEUE)}{one.id}"
    others = [
        make_binding(Destination("exchange", "q"), "k", {"a": 1, "b": 2}),
        make_binding(QUEUE, "l", {"a": 1, "b": 2}),
        make_binding(QUEUE, "k", {"a": 1}),
        make_binding(QUEUE, "k", {"a": "1", "b": 2}),
        make_binding(QUEUE, "k", None),
    ]
    assert len({one.id, *(other.id for other in others)}) == 6


def test_an_exchange_remembers_its_last_changes() -> None:
    record = ExchangeRecord("e", "direct")
    bindings = [make_binding(QUEUE, str(number), None) for number in range(LOG_LENGTH + 2)]
    for binding in bindings:
        record = record.changed("+", binding)
    record = record.changed("-", *bindings[:2])
    assert record.revision == LOG_LENGTH + 4
    assert len(record.log) == LOG_LENGTH
    assert [sign for sign, _ in record.log[-3:]] == ["+", "-", "-"]
    assert binding_from_json(record.log[-1][1]) == bindings[1]


# -- rules -----------------------------------------------------------------------------------


def test_reserved_names_are_refused() -> None:
    for kind in ("exchange", "queue"):
        with pytest.raises(AccessRefusedError, match=f"{kind} name 'amq.x'"):
            check_name_is_free(kind, "amq.x")
        check_name_is_free(kind, "amqx")
    with pytest.raises(AccessRefusedError):
        check_not_default("")
    check_not_default("e")


@pytest.mark.parametrize(
    ("owner", "declares", "is_locked"),
    [
        ("", None, False),
        ("mine", None, False),
        ("other", None, True),
        ("", "", False),
        ("mine", "mine", False),
        ("mine", "", True),
        ("", "mine", True),
        ("other", "mine", True),
        ("other", "", True),
    ],
)
def test_an_exclusive_queue_is_its_owners(
    owner: str, declares: str | None, is_locked: bool
) -> None:
    queue = QueueRecord("q", owner=owner)
    assert queue.exclusive is bool(owner)
    if not is_locked:
        check_access(queue, "mine", declares=declares)
        return
    with pytest.raises(ResourceLockedError, match="'q'"):
        check_access(queue, "mine", declares=declares)


@pytest.mark.parametrize(
    ("there", "wanted", "difference"),
    [
        (QueueRecord("q"), QueueRecord("q"), None),
        (QueueRecord("q"), QueueRecord("q", durable=True), "durable"),
        (QueueRecord("q"), QueueRecord("q", auto_delete=True), "auto_delete"),
        (QueueRecord("q"), QueueRecord("q", arguments={"x-expires": 5}), "x-expires"),
        (QueueRecord("q", arguments={"x-expires": 5}), QueueRecord("q"), "x-expires"),
        (QueueRecord("q"), QueueRecord("q", arguments={"note": 5}), None),
        (QueueRecord("q", sources=("e",)), QueueRecord("q"), None),
        (ExchangeRecord("e", "topic"), ExchangeRecord("e", "direct"), "type"),
        (ExchangeRecord("e", "topic"), ExchangeRecord("e", "topic", internal=True), "internal"),
        (
            ExchangeRecord("e", "topic", arguments={"alternate-exchange": "a"}),
            ExchangeRecord("e", "topic", arguments={"alternate-exchange": "b"}),
            "alternate-exchange",
        ),
        (ExchangeRecord("e", "topic", revision=5, born="x"), ExchangeRecord("e", "topic"), None),
    ],
)
def test_a_redeclaration_has_to_be_equal(there: Any, wanted: Any, difference: str | None) -> None:
    if difference is None:
        check_equivalent(there, wanted)
        return
    with pytest.raises(PreconditionFailedError, match=f"inequivalent arg '{difference}'"):
        check_equivalent(there, wanted)
