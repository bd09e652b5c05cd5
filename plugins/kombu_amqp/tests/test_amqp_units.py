"""The parts that need no broker: tables, frames, the books about confirms and settling."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_amqp import frames
from kombu_amqp.confirms import Confirms, Receipt
from kombu_amqp.settling import Deliveries
from kombu_amqp.tables import MAX_DEPTH, decode_table, encode_table
from kombu_core.exceptions import (
    ConnectionLostError,
    DecodeError,
    EncodeError,
    PublishRejectedError,
)
from kombu_core.testing.harness import envelope

KEYS = st.text(max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.integers(0, 2**37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-999, max_value=999, places=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


class TestTables:
    @given(st.dictionaries(KEYS, VALUES, max_size=6))
    def test_what_goes_in_comes_out(self, table: dict[str, Any]) -> None:
        data = encode_table(table)
        assert decode_table(data) == (table, len(data))

    @given(st.binary(max_size=60))
    def test_anything_is_decoded_or_refused(self, body: bytes) -> None:
        try:
            decode_table(len(body).to_bytes(4) + body)
        except DecodeError:
            pass

    @given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.data())
    def test_a_table_that_breaks_off_is_refused(self, table: Any, data: Any) -> None:
        encoded = encode_table(table)
        end = data.draw(st.integers(0, len(encoded) - 1))
        try:
            found, _ = decode_table(encoded[:end])
        except DecodeError:
            return
        assert found != table

    def test_depth_has_a_limit(self) -> None:
        deep: Any = 1
        for _ in range(MAX_DEPTH + 2):
            deep = [deep]
        with pytest.raises(EncodeError):
            encode_table({"deep": deep})
        raw = b"I\x00\x00\x00\x01"
        for _ in range(MAX_DEPTH + 2):
            raw = b"A" + len(raw).to_bytes(4) + raw
        with pytest.raises(DecodeError):
            decode_table((len(raw) + 2).to_bytes(4) + b"\x01k" + raw)

    def test_a_decimal_with_a_positive_exponent(self) -> None:
        assert decode_table(encode_table({"d": Decimal("1E+3")}))[0] == {"d": 1000}
        with pytest.raises(EncodeError):
            encode_table({"d": Decimal("NaN")})


class TestFrames:
    @given(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=50)), max_size=8), st.data())
    def test_the_stream_may_be_cut_anywhere(self, wanted: Any, data: Any) -> None:
        stream = b"".join(frames.frame(kind, 7, payload) for kind, payload in wanted)
        reader = frames.FrameReader()
        found: list[tuple[int, int, bytes]] = []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            found += reader.feed(stream[:size])
            stream = stream[size:]
        assert found == [(kind, 7, payload) for kind, payload in wanted]

    @pytest.mark.parametrize(
        "data", [b"AMQP\x00\x00\x08\x00", b"\x01\x00\x01\x00\x00\x00\x01xx", b"HTTP/1.1 400 Bad"]
    )
    def test_what_is_no_frame_ends_the_connection(self, data: bytes) -> None:
        with pytest.raises(ConnectionLostError):
            list(frames.FrameReader().feed(data + bytes(2**21)))


class TestConfirms:
    def test_in_any_order_and_many_at_once(self) -> None:
        books, first, second = Confirms(), Receipt(), Receipt()
        for position in range(5):
            message = envelope("", "q", str(position))
            books.expect(first, position, message, message, False)
        message = envelope("", "q", "other")
        books.expect(second, 0, message, message, False)
        books.settle(3, False, True)
        books.settle(2, True, True)
        assert (first.open, second.open) == (2, 1)
        assert books.open_positions(first) == [3, 4]
        books.settle(5, False, False)
        books.settle(0, True, True)
        assert first.is_complete()
        assert second.is_complete()
        assert list(first.failed) == [4]
        assert isinstance(first.failed[4], PublishRejectedError)

    def test_what_comes_back_is_found_among_its_likes(self) -> None:
        books, receipt = Confirms(), Receipt()
        for position, headers in enumerate([{"n": 1}, {"n": 2}, {"n": 2}]):
            message = envelope("x", "k", "same", headers)
            books.expect(receipt, position, message, message, True)
        returned = frames.Content(envelope("x", "k", "same", {"n": 2}), 0, False, "NO_ROUTE", 312)
        assert books.come_back(returned)
        assert list(receipt.returned) == [1]
        assert books.come_back(returned)
        assert list(receipt.returned) == [1, 2]
        stranger = frames.Content(envelope("x", "k", "strange"), 0, False, "NO_ROUTE", 312)
        assert books.come_back(stranger) is None

    def test_a_lost_channel_fails_what_is_open(self) -> None:
        books, receipt = Confirms(), Receipt()
        message = envelope("", "q")
        for position in range(3):
            books.expect(receipt, position, message, message, False)
        books.settle(1, False, True)
        error = ConnectionLostError("gone")
        books.fail(error)
        assert receipt.failed == {1: error, 2: error}
        assert receipt.is_complete()


class TestDeliveries:
    def test_contiguous_acks_become_one(self) -> None:
        books = Deliveries()
        for tag in range(1, 11):
            books.add(tag, True)
        for tag in range(1, 6):
            assert books.acknowledge(tag) == tag
        assert list(books.take_acks()) == [(5, True)]
        assert not books.has_acks

    @given(st.integers(1, 40), st.integers(0, 2**32))
    def test_the_broker_hears_exactly_what_was_acknowledged(self, count: int, seed: int) -> None:
        random_ = random.Random(seed)
        books, brokers = Deliveries(), dict.fromkeys(range(1, count + 1))
        for tag in brokers:
            books.add(tag, True)
        order = [*brokers]
        random_.shuffle(order)
        order = order[: random_.randint(0, count)]
        acked: set[int] = set()
        for tag in order:
            books.acknowledge(tag)
            acked.add(tag)
            if random_.random() < 0.3:
                self._hear(books, brokers)
                assert set(brokers) == set(range(1, count + 1)) - acked
        self._hear(books, brokers)
        assert set(brokers) == set(range(1, count + 1)) - acked

    @staticmethod
    def _hear(books: Deliveries, brokers: dict[int, None]) -> None:
        for tag, multiple in books.take_acks():
            assert tag in brokers, "RabbitMQ would close the channel"
            for each in [one for one in brokers if one == tag or (multiple and one < tag)]:
                del brokers[each]

    def test_unknown_and_settled_tags(self) -> None:
        books = Deliveries()
        books.add(1, True)
        books.add(2, False)
        assert books.acknowledge(2) == 0
        assert books.acknowledge(1) == 1
        assert books.acknowledge(1) == 0
        assert not books.settle(1, False)
        assert not books.settle(9, True)
        assert books.settle(0, True)

    def test_a_rollback_brings_tags_back_in_order(self) -> None:
        books = Deliveries()
        books.begin()
        for tag in (1, 2, 3):
            books.add(tag, True)
        assert books.settle(2, False)
        books.rollback()
        assert books.settle(2, True)
        books.commit()
        books.rollback()
        assert not books.settle(2, False)
        assert books.settle(3, False)


def test_without_pika_it_is_said_what_to_install() -> None:
    program = """
import sys
sys.modules["pika"] = None
from kombu_core import Connection
from kombu_core.exceptions import PluginLoadError
assert Connection("amqp://").transport_options == {}
try:
    Connection("pika://localhost").connect()
except PluginLoadError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert "pip install kombu-amqp[pika]" in done.stdout
