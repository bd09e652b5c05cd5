"""Bodies, properties and headers: what was published is what arrives."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest

from kombu_core.exceptions import KombuError
from kombu_core.message import PERSISTENT, TRANSIENT
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.harness import Names, envelope, fetch, publish
from kombu_core.transport import Channel

#: Each basic property with a value (user_id has to be the connection's user: not here).
PROPERTIES: Final[dict[str, Any]] = {
    "content_type": "application/x-test",
    "content_encoding": "utf-8",
    "delivery_mode": PERSISTENT,
    "priority": 7,
    "correlation_id": "correlation-ü",
    "reply_to": "answers",
    "message_id": "id-1",
    "timestamp": 1_700_000_000,
    "type": "a type",
    "app_id": "the test",
}

HEADER_VALUES: Final[dict[str, Any]] = {
    "text": "ünï☃\U0001f600",
    "empty": "",
    "int": 7,
    "negative": -7,
    "large": 2**60,
    "float": 1.5,
    "true": True,
    "false": False,
    "none": None,
    "bytes": b"\x00\xff\xfe",
    "decimal": Decimal("3.14"),
    "list": [1, "two", None, [3.0]],
    "dict": {"a": {"b": [1, {"c": b"\x80"}]}},
    "empty list": [],
    "empty dict": {},
}


class BodyContract(ContractFixtures):
    """What travels is not touched."""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x00", id="zero"),
            pytest.param(bytes(range(256)), id="binary"),
            pytest.param("ünï☃".encode(), id="utf-8"),
            pytest.param(b"\xff\xfe not utf-8", id="not utf-8"),
            pytest.param(b'{"json": "but only bytes"}\n', id="json"),
            pytest.param(bytes(range(256)) * 4096, id="1 MiB"),
        ],
    )
    def test_a_body_arrives_as_it_is(self, channel: Channel, name: Names, body: bytes) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, body)
        found = fetch(channel, queue).body
        assert isinstance(found, bytes)
        assert found == body

    @pytest.mark.parametrize("kind", HEADER_VALUES)
    def test_a_header_arrives_as_it_is(self, channel: Channel, name: Names, kind: str) -> None:
        channel.queue_declare(queue := name())
        value = HEADER_VALUES[kind]
        publish(channel, "", queue, "x", headers={kind: value})
        found = fetch(channel, queue).headers[kind]
        assert found == value
        assert type(found) is type(value)

    def test_a_time_in_a_header_is_the_same_moment(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        moment = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
        publish(channel, "", queue, "x", headers={"time": moment})
        assert fetch(channel, queue).headers["time"] == moment

    def test_headers_may_have_any_name(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        headers = {"ünï": 1, "with space": 2, "$dollar": 3, "a.b": 4, "x" * 255: 5}
        publish(channel, "", queue, "x", headers=headers)
        assert dict(fetch(channel, queue).headers) == headers

    def test_an_application_may_use_names_that_look_like_ours(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        headers = {"a": {"$bytes": "AA=="}, "b": {"$$bytes": "x"}, "c": {"$timestamp": 1}}
        publish(channel, "", queue, "x", headers=headers)
        assert dict(fetch(channel, queue).headers) == headers

    def test_no_headers_are_an_empty_table(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "x")
        assert dict(fetch(channel, queue).headers) == {}

    @pytest.mark.parametrize("key", PROPERTIES)
    def test_a_property_arrives_as_it_is(self, channel: Channel, name: Names, key: str) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "x", **{key: PROPERTIES[key]})
        found = fetch(channel, queue).properties
        assert found.get(key) == PROPERTIES[key]
        assert set(found) <= {key, "delivery_mode"}

    def test_all_properties_arrive_together(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "x", headers={"h": 1}, **PROPERTIES)
        message = fetch(channel, queue)
        assert dict(message.properties) == PROPERTIES
        assert message.content_type == PROPERTIES["content_type"]
        assert message.content_encoding == PROPERTIES["content_encoding"]

    @pytest.mark.parametrize("mode", [TRANSIENT, PERSISTENT])
    def test_both_delivery_modes_arrive(self, channel: Channel, name: Names, mode: int) -> None:
        channel.queue_declare(queue := name(), durable=True)
        publish(channel, "", queue, "x", delivery_mode=mode)
        assert fetch(channel, queue).properties.get("delivery_mode") == mode

    def test_a_redelivered_message_is_unchanged(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, b"\x00\xff", headers=HEADER_VALUES, **PROPERTIES)
        first = fetch(channel, queue)
        first.requeue()
        again = fetch(channel, queue)
        assert again.envelope == first.envelope

    def test_a_body_beyond_the_limit_is_refused(self, channel: Channel, name: Names) -> None:
        largest = channel.transport.capabilities.max_message_bytes
        if largest is None or largest > 1 << 24:
            pytest.skip("the transport sets no limit of its own that a test would want to reach")
        channel.queue_declare(queue := name())
        with pytest.raises(KombuError) as caught:
            channel.basic_publish(envelope("", queue, bytes(largest + 1)))
        assert not caught.value.is_retryable
