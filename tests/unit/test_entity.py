"""Declarations: values first, and AMQP's methods called in their order once they are bound."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kombu_core.entity import Binding, Entity, Exchange, Queue, binding
from kombu_core.exceptions import ConfigurationError, NotBoundError, UnknownCodecError
from kombu_core.message import Envelope, Message
from kombu_core.transport import Channel, QueueDeclareOk


class Recorder:
    """A channel that writes down what it is told."""

    channel_id = 7
    transport = SimpleNamespace(client=None)

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"queue_declare": QueueDeclareOk("amq.gen-1", 2, 1)}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.partition("_")[0] not in ("queue", "exchange", "basic"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self.answers.get(name)

        return call

    @property
    def methods(self) -> list[tuple[Any, ...]]:
        return [(name, *args) for name, args, _ in self.calls]

    @property
    def last(self) -> Any:
        return self.calls[-1]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def channel(recorder: Recorder) -> Channel:
    return cast(Channel, recorder)


# -- values ----------------------------------------------------------------------------------

FULL = Queue(
    "q",
    Exchange("e", "topic", delivery_mode="transient", arguments={"a": 1}),
    "k",
    bindings=[Binding(Exchange("f"), "b", {"x": 1})],
    durable=False,
    exclusive=True,
    alias="other",
    queue_arguments={"x-queue-mode": "lazy"},
    expires=1.5,
    max_priority=3,
)


@pytest.mark.parametrize("entity", [FULL, Queue(), Exchange(), FULL.exchange], ids=repr)
def test_copies_are_equal_and_unbound(entity: Entity, channel: Channel) -> None:
    bound = entity.bind(channel)
    for other in (
        bound,
        copy.copy(bound),
        copy.deepcopy(entity),
        pickle.loads(pickle.dumps(bound)),
        type(entity)(**entity.as_dict()),
        type(entity)(**json.loads(json.dumps(entity.as_dict(recurse=True)))),
    ):
        assert other == entity
        assert hash(other) == hash(entity)
        assert other.is_bound == (other is bound)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"exchange": "x"},
        {"routing_key": "x"},
        {"bindings": []},
        {"no_ack": True},
        {"queue_arguments": {}},
        {"binding_arguments": {"x": 1}},
        {"max_priority": 4},
    ],
)
def test_queues_differ_by_what_they_declare(change: dict[str, Any]) -> None:
    assert Queue(**{**FULL.as_dict(), **change}) != FULL


def test_exchanges_differ_by_what_they_declare() -> None:
    assert Exchange("e") == Exchange("e", "direct")
    assert Exchange("e") != Exchange("e", internal=True)
    assert Exchange("e") != Exchange("e", arguments={"alternate-exchange": "f"})
    assert Exchange("e") != Queue("e")
    assert hash(Exchange("e")) != hash(Queue("e"))
    assert len({Exchange("e"), Exchange("e"), Exchange("f")}) == 2


def test_what_is_only_of_the_application_does_not_count() -> None:
    assert Queue("q", alias="a", on_declared=print) == Queue("q")


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(TypeError, match="durabel"):
        Queue("q", durabel=False)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="durabel"):
        Exchange("q", durabel=False)  # type: ignore[call-arg]


def test_a_queue_takes_its_exchange_in_several_forms() -> None:
    assert Queue("q", "e").exchange == Exchange("e")
    assert Queue("q", {"name": "e", "type": "topic"}).exchange == Exchange("e", "topic")
    assert Queue("q").exchange == Exchange("")
    several = Queue("q", [binding(Exchange("e"), "k")])
    assert several.exchange is None
    assert several.bindings == (Binding(Exchange("e"), "k"),)
    assert Queue("q", "e", bindings=several.bindings).exchange == Exchange("e")
    with pytest.raises(ConfigurationError, match="int"):
        Binding(5)  # type: ignore[arg-type]


def test_key_is_another_name_for_the_routing_key() -> None:
    assert Queue("q", "e", key="k") == Queue("q", "e", "k") == Queue("q", "e", "k", key="k")
    with pytest.raises(ConfigurationError, match=r"'k'.*'l'"):
        Queue("q", "e", "k", key="l")


def test_exclusive_implies_auto_delete() -> None:
    assert Queue("q", exclusive=True).auto_delete


@pytest.mark.parametrize(
    ("given", "mode"), [("transient", 1), ("persistent", 2), (1, 1), (2, 2), (None, None)]
)
def test_delivery_modes_have_names(given: int | str | None, mode: int | None) -> None:
    assert Exchange("e", delivery_mode=given).delivery_mode == mode


@pytest.mark.parametrize("given", [3, "durable", "1"])
def test_a_bad_delivery_mode_is_an_error(given: int | str) -> None:
    with pytest.raises(ConfigurationError, match="delivery_mode"):
        Exchange("e", delivery_mode=given)


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        (Exchange("e", "topic"), "<unbound Exchange e(topic)>"),
        (Exchange(), "<unbound Exchange ''(direct)>"),
        (Queue("q", "e", "k"), "<unbound Queue q -> Exchange e(direct) -> k>"),
        (Queue("q", [binding(Exchange("e"), "k")]), "<unbound Queue q -> e->k>"),
    ],
)
def test_a_declaration_describes_itself(entity: Entity, text: str, channel: Channel) -> None:
    assert repr(entity) == text
    assert repr(entity(channel)) == text.replace("unbound ", "")[:-1] + " bound to chan:7>"
    assert repr(binding(Exchange("e"), "k")) == "<binding: e->k>"


# -- binding to a channel --------------------------------------------------------------------


def test_calling_it_makes_a_bound_copy(channel: Channel) -> None:
    queue = Queue("q", "e", on_declared=lambda *_: None)
    bound = queue(channel)
    assert bound.is_bound
    assert bound.channel is channel
    assert bound.on_declared is queue.on_declared
    assert bound.exchange is not None
    assert bound.exchange.channel is channel
    assert not queue.is_bound
    assert queue.exchange is not None
    assert not queue.exchange.is_bound
    assert Queue("q", channel=channel).is_bound


def test_a_connection_stands_for_its_default_channel(channel: Channel) -> None:
    connection = SimpleNamespace(default_channel=channel)
    assert Exchange("e")(connection).channel is channel
    assert Queue("q", channel=connection).channel is channel


def test_reviving_changes_the_channel_of_what_is_bound(channel: Channel) -> None:
    other = cast(Channel, Recorder())
    queue = Queue("q", "e")
    queue.revive(other)
    assert not queue.is_bound
    bound = queue(channel)
    bound.revive(other)
    assert bound.channel is other
    assert bound.exchange is not None
    assert bound.exchange.channel is other


@pytest.mark.parametrize(
    ("entity", "operation", "args"),
    [
        *((Exchange("e"), name, ()) for name in ("declare", "delete")),
        *((Exchange("e"), name, ("f",)) for name in ("bind_to", "unbind_from", "publish")),
        *(
            (Queue("q"), name, ())
            for name in (
                *("declare", "queue_declare", "queue_bind", "queue_unbind", "get", "purge"),
                *("consume", "delete"),
            )
        ),
        *((Queue("q"), name, ("f",)) for name in ("bind_to", "unbind_from", "cancel")),
    ],
)
def test_an_operation_needs_a_channel(entity: Entity, operation: str, args: Any) -> None:
    kind = type(entity).__name__
    with pytest.raises(NotBoundError) as caught:
        getattr(entity, operation)(*args)
    assert str(caught.value) == f"Can't call {operation} on {kind} not bound to a channel"
    with pytest.raises(NotBoundError):
        _ = entity.channel


def test_some_attributes_can_be_assigned_until_it_is_bound(channel: Channel) -> None:
    queue = Queue("q")
    before = hash(queue)
    queue.exchange = Exchange("e")
    queue.routing_key = "k"
    queue.queue_arguments = {"x": 1}
    assert queue == Queue("q", "e", "k", queue_arguments={"x": 1})
    assert hash(queue) == before
    queue.exchange = "f"  # type: ignore[assignment]
    assert queue.exchange == Exchange("f")
    bound = queue(channel)
    for name in ("exchange", "routing_key", "queue_arguments"):
        with pytest.raises(AttributeError, match=f"{name} of Queue 'q'.*bound"):
            setattr(bound, name, None)
    for name in ("name", "durable", "nonsense"):
        with pytest.raises(AttributeError, match=name):
            setattr(queue, name, None)
    with pytest.raises(AttributeError, match="type"):
        Exchange("e").type = "topic"


# -- operations ------------------------------------------------------------------------------


def test_declaring_an_exchange(channel: Channel, recorder: Recorder) -> None:
    Exchange("e", "topic", internal=True, arguments={"a": 1})(channel).declare()
    attributes = {
        "passive": False, "durable": True, "auto_delete": False, "internal": True,
        "arguments": {"a": 1},
    }  # fmt: skip
    assert recorder.last == ("exchange_declare", ("e", "topic"), attributes)
    for exchange in (Exchange("e", passive=True), Exchange("amq.topic", "topic")):
        exchange(channel).declare()
        assert recorder.last[2]["passive"]
    recorder.calls.clear()
    Exchange()(channel).declare()
    Exchange("e", no_declare=True)(channel).declare()
    assert recorder.calls == []


def test_operations_of_an_exchange(channel: Channel, recorder: Recorder) -> None:
    exchange = Exchange("e")(channel)
    exchange.bind_to(Exchange("f"), "k", {"a": 1})
    exchange.bind_to("f")
    exchange.unbind_from(Exchange("f"), "k", {"a": 1})
    exchange.delete(if_unused=True)
    assert recorder.calls == [
        ("exchange_bind", ("e", "f", "k", {"a": 1}), {}),
        ("exchange_bind", ("e", "f", "", None), {}),
        ("exchange_unbind", ("e", "f", "k", {"a": 1}), {}),
        ("exchange_delete", ("e",), {"if_unused": True}),
    ]


def test_publishing_to_an_exchange(channel: Channel, recorder: Recorder) -> None:
    Exchange("e")(channel).publish("é", "k", mandatory=True, headers={"h": 1})
    text = Envelope(
        "é".encode(),
        {"content_type": "text/plain", "content_encoding": "utf-8", "delivery_mode": 2},
        {"h": 1},
        "e",
        "k",
    )
    assert recorder.last == ("basic_publish", (text,), {"mandatory": True})
    exchange = Exchange("e", delivery_mode="transient")(channel)
    exchange.publish(b"x", properties={"priority": 3, "content_type": "x/y"})
    (envelope,) = recorder.last[1]
    assert envelope.properties == {
        "content_type": "x/y", "content_encoding": "binary", "delivery_mode": 1, "priority": 3,
    }  # fmt: skip


def test_declaring_a_queue_declares_and_binds_all_of_it(
    channel: Channel, recorder: Recorder
) -> None:
    queue = Queue("q", "e", "k", bindings=[binding(Exchange("f"), "l", {"a": 1})])
    assert queue(channel).declare() == "q"
    assert recorder.methods == [
        ("exchange_declare", "e", "direct"),
        ("queue_declare", "q"),
        ("exchange_declare", "f", "direct"),
        ("queue_bind", "q", "f", "l", {"a": 1}),
        ("queue_bind", "q", "e", "k", None),
    ]
    recorder.calls.clear()
    Queue("q")(channel).declare(nowait=True)
    assert recorder.methods == [("queue_declare", "q")]
    Queue("q", no_declare=True)(channel).declare()
    assert recorder.methods == [("queue_declare", "q")]


def test_the_attributes_of_a_declared_queue(channel: Channel, recorder: Recorder) -> None:
    Queue("q", durable=False, exclusive=True)(channel).queue_declare()
    attributes = {
        "passive": False, "durable": False, "exclusive": True, "auto_delete": True,
        "arguments": None,
    }  # fmt: skip
    assert recorder.last == ("queue_declare", ("q",), attributes)
    Queue("q", passive=True)(channel).queue_declare()
    assert recorder.last[2]["passive"]
    Queue("q")(channel).queue_declare(passive=True)
    assert recorder.last[2]["passive"]


def test_conveniences_become_arguments() -> None:
    queue = Queue(
        "q",
        queue_arguments={"x-expires": 1, "x-queue-mode": "lazy"},
        expires=1.0011,
        message_ttl=0,
        max_length=10,
        max_length_bytes=20,
        max_priority=5,
    )
    assert queue.declare_arguments == {
        "x-queue-mode": "lazy",
        "x-expires": 1001,
        "x-message-ttl": 0,
        "x-max-length": 10,
        "x-max-length-bytes": 20,
        "x-max-priority": 5,
    }
    assert queue.queue_arguments == {"x-expires": 1, "x-queue-mode": "lazy"}


def test_the_broker_may_name_the_queue(channel: Channel, recorder: Recorder) -> None:
    told: list[tuple[str, int, int]] = []
    declared = Queue("", "e", "k", on_declared=lambda *answer: told.append(answer))
    queue = declared(channel)
    assert queue.declare() == queue.name == "amq.gen-1"
    assert ("queue_bind", "amq.gen-1", "e", "k", None) in recorder.methods
    assert told == [("amq.gen-1", 2, 1)]
    assert declared.name == ""


def test_binding_and_unbinding_a_queue(channel: Channel, recorder: Recorder) -> None:
    queue = Queue("q", "e", "k", binding_arguments={"a": 1})(channel)
    queue.queue_bind()
    queue.queue_unbind()
    queue.bind_to("f")
    queue.unbind_from(Exchange("f"), "l")
    two = binding(Exchange("g"), "m", {"a": 1}, unbind_arguments={"b": 1})
    two.unbind(queue)
    binding(Exchange("g"), "m", {"a": 1}).unbind(queue)
    binding(Exchange("g"), "m").bind(Exchange("h")(channel))
    assert recorder.methods == [
        ("queue_bind", "q", "e", "k", {"a": 1}),
        ("queue_unbind", "q", "e", "k", {"a": 1}),
        ("queue_bind", "q", "f", "", None),
        ("queue_unbind", "q", "f", "l", None),
        ("queue_unbind", "q", "g", "m", {"b": 1}),
        ("queue_unbind", "q", "g", "m", {"a": 1}),
        ("exchange_bind", "h", "g", "m", None),
    ]


def test_getting_one_message(channel: Channel, recorder: Recorder) -> None:
    queue = Queue("q", no_ack=True)(channel)
    assert queue.get() is None
    assert recorder.last == ("basic_get", ("q",), {"no_ack": True})
    message = Message(channel, Envelope(b"[]", {"content_type": "application/json"}, {}), 1)
    recorder.answers["basic_get"] = message
    assert queue.get(no_ack=False, accept=["json"]) is message
    assert recorder.last[2] == {"no_ack": False}
    assert message.accept == {"application/json"}
    assert message.payload == []
    recorder.calls.clear()
    with pytest.raises(UnknownCodecError, match="jsno"):
        queue.get(accept=["jsno"])
    assert recorder.calls == []


def test_consuming_and_the_rest(channel: Channel, recorder: Recorder) -> None:
    recorder.answers |= {"basic_consume": "tag", "queue_purge": 3, "queue_delete": 4}
    queue = Queue("q", consumer_arguments={"x-priority": 1})(channel)
    assert queue.consume("t", print, no_ack=True, on_cancel=repr) == "tag"
    assert recorder.last == (
        "basic_consume",
        ("q", print),
        {
            "consumer_tag": "t",
            "no_ack": True,
            "exclusive": False,
            "arguments": {"x-priority": 1},
            "on_cancel": repr,
        },
    )
    with pytest.raises(TypeError, match="callback"):
        queue.consume()
    queue.cancel("tag")
    assert recorder.last == ("basic_cancel", ("tag",), {})
    assert queue.purge() == 3
    assert queue.delete(if_unused=True, if_empty=True) == 4
    assert recorder.last == ("queue_delete", ("q",), {"if_unused": True, "if_empty": True})


def test_what_may_vanish_is_declared_again() -> None:
    assert Queue("q").can_cache_declaration
    assert Exchange("e").can_cache_declaration
    assert not Exchange("e", auto_delete=True).can_cache_declaration
    assert not Queue("q", expires=1).can_cache_declaration
    assert not Queue("q", exclusive=True).can_cache_declaration
