"""A topology as one thing: consistent, compared with a broker, applied, and explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core import Connection, Exchange, Queue, binding
from kombu_core.exceptions import ConfigurationError, PreconditionFailedError, UnsupportedError
from kombu_core.topology_plan import Topology, TopologyConflictError

MEDIA = Exchange("media", "topic")
ALL = Exchange("all", "fanout")
VIDEO = Queue("video", MEDIA, "video.#")
MP4 = Queue("mp4", bindings=[binding(MEDIA, "*.mp4"), binding(MEDIA, "video.mp4")])


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        connection.connect()
        yield connection


def states(topology: Topology, connection: Connection) -> dict[str, str]:
    return {
        f"{finding.step.kind} {finding.step.name}": finding.state
        for finding in topology.diff(connection)
        if finding.step.kind != "binding"
    }


def test_a_plan_lists_everything_in_order() -> None:
    topology = Topology(MP4, VIDEO).bind(MEDIA, ALL)
    plan = topology.plan()
    assert [(step.kind, step.name) for step in plan] == [
        ("exchange", "media"),
        ("exchange", "all"),
        ("queue", "mp4"),
        ("queue", "video"),
        ("binding", "mp4"),
        ("binding", "mp4"),
        ("binding", "video"),
        ("binding", "media"),
    ]
    assert str(plan[0]) == "topic exchange 'media' (durable)"
    assert str(plan[-1]) == "binding 'all' -> exchange 'media' by ''"


def test_applying_makes_what_is_missing_and_can_be_repeated(connection: Connection) -> None:
    topology = Topology(VIDEO, MP4).bind(MEDIA, ALL)
    assert set(states(topology, connection).values()) == {"missing"}
    assert len(topology.apply(connection)) == 8
    assert set(states(topology, connection).values()) == {"exists"}
    assert {finding.state for finding in topology.apply(connection)} == {"unknown"}
    connection.Producer().publish("x", exchange="all", routing_key="video.mp4")
    for queue in (VIDEO, MP4):
        message = queue(connection).get()
        assert message is not None
        assert message.payload == "x"


def test_a_conflict_is_told_before_anything_changes(connection: Connection) -> None:
    Exchange("media", "direct")(connection).declare()
    with connection.clone() as other:
        Queue("mp4", exclusive=True)(other).declare()
        topology = Topology(VIDEO, MP4, Exchange("there", passive=True))
        assert states(topology, connection) == {
            "exchange media": "differs",
            "exchange there": "missing",
            "queue video": "missing",
            "queue mp4": "locked",
        }
        with pytest.raises(TopologyConflictError, match="inequivalent") as caught:
            topology.apply(connection)
        assert [finding.step.name for finding in caught.value.findings] == ["media", "there", "mp4"]
    assert states(Topology(Queue("video")), connection) == {"queue video": "missing"}


def test_queues_differ_by_their_arguments(connection: Connection) -> None:
    Queue("video", max_length=3)(connection).declare()
    assert states(Topology(Queue("video")), connection) == {"queue video": "differs"}
    assert states(Topology(Queue("video", max_length=3)), connection) == {"queue video": "exists"}
    assert states(Topology(Queue("video", passive=True)), connection) == {"queue video": "exists"}


def test_declarations_have_to_agree() -> None:
    with pytest.raises(ConfigurationError, match="type is 'topic' and 'direct'"):
        Topology(VIDEO, Queue("other", "media"))
    Topology(VIDEO, Queue("other", Exchange("media", no_declare=True)))
    Topology(Queue("other", Exchange("media", no_declare=True)), VIDEO)
    with pytest.raises(ConfigurationError, match="two queues"):
        Topology(VIDEO, Queue("video", max_length=3))
    with pytest.raises(ConfigurationError, match="name"):
        Topology(Queue())
    with pytest.raises(ConfigurationError, match="default"):
        Topology(Exchange())
    with pytest.raises(ConfigurationError, match="no exchange 'nowhere'"):
        Topology().bind(VIDEO, "nowhere")
    with pytest.raises(PreconditionFailedError, match="x-match"):
        Topology().bind(VIDEO, Exchange("h", "headers"), arguments={"x-match": "some"})


def test_a_message_is_explained() -> None:
    topology = Topology(VIDEO, MP4).bind(MEDIA, ALL).bind(ALL, MEDIA, "loop")
    found = topology.route("all", "video.mp4")
    assert found.queues == ("video", "mp4")
    assert len(found.paths) == 3, "two bindings lead to one queue"
    assert str(found).splitlines()[0] == (
        "queue 'video': fanout exchange 'all' binds exchange 'media' takes everything, then "
        "topic exchange 'media' binds queue 'video' by 'video.#'"
    )
    assert topology.route("media", "video.ogg").queues == ("video",)
    assert topology.route("media", "loop").queues == ()
    assert topology.route("", "mp4").queues == ("mp4",)


def test_what_is_published_is_explained_as_it_is_routed(connection: Connection) -> None:
    topology = Topology(VIDEO, MP4)
    topology.apply(connection)
    connection.Producer().publish("x", exchange="media", routing_key="audio.mp4")
    message = MP4(connection).get()
    assert message is not None
    assert topology.explain(message).queues == ("mp4",)
    assert topology.explain(message.envelope).queues == ("mp4",)


def test_dead_ends_are_explained() -> None:
    topology = Topology(VIDEO, Exchange("inside", "direct", internal=True))
    assert not topology.route("media", "audio")
    assert str(topology.route("media", "audio")) == (
        "topic exchange 'media': no binding matches 'audio'"
    )
    assert str(topology.route("nowhere", "audio")) == "there is no exchange 'nowhere'"
    assert "internal" in str(topology.route("inside", "audio"))
    assert "no queue called 'x'" in str(topology.route("", "x"))


def test_an_alternate_exchange_is_followed() -> None:
    rest = Queue("rest", Exchange("rest", "fanout"))
    first = Exchange("first", arguments={"alternate-exchange": "rest"})
    topology = Topology(rest, Queue("some", first, "k"))
    assert topology.route("first", "k").queues == ("some",)
    found = topology.route("first", "other")
    assert found.queues == ("rest",)
    assert "alternate is 'rest'" in str(found)


def test_headers_and_the_brokers_own_exchanges_decide_too() -> None:
    topology = Topology().bind(Queue("q"), "amq.match", arguments={"x-match": "any", "a": 1})
    assert topology.route("amq.match", headers={"a": 1, "b": 2}).queues == ("q",)
    assert topology.route("amq.match", headers={"a": 2}).queues == ()
    assert "a" in str(topology.route("amq.match", headers={"a": 1}))


def test_an_unknown_type_has_to_be_given() -> None:
    with pytest.raises(UnsupportedError, match="x-strange"):
        Topology(Queue("q", Exchange("s", "x-strange"))).route("s")
