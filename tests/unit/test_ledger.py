"""Delivery tags: made once, taken back once, in order, also by many threads; and acks together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from kombu_core.exceptions import (
    ConnectionLostError,
    LeaseLostError,
    PreconditionFailedError,
)
from kombu_core.message import Envelope
from kombu_core.virtual.acks import Acks
from kombu_core.virtual.ledger import Entry, Ledger
from kombu_core.virtual.store import Claim, Claimed


class Window:
    """Whoever has a limit."""

    def __init__(self) -> None:
        self.unacked: set[int] = set()


def entry(name: str, window: Window | None = None) -> Entry:
    return window, Claimed(Claim("q", name), Envelope(b"", {}, {}))


def names(entries: dict[int, Entry]) -> list[str]:
    return [claimed.claim.id for _, claimed in entries.values()]


@pytest.fixture
def window() -> Window:
    return Window()


@pytest.fixture
def ledger(window: Window) -> Ledger:
    ledger = Ledger()
    for name in "abc":
        ledger.add(entry(name, window))
    return ledger


def test_tags_count_from_one_and_are_used_once(ledger: Ledger) -> None:
    assert ledger.tag() == 4
    assert ledger.add(entry("e")) == 5
    assert len(ledger) == 4


def test_a_delivery_counts_in_its_window_until_it_is_taken(ledger: Ledger, window: Window) -> None:
    assert window.unacked == {1, 2, 3}
    assert names(ledger.take(2)) == ["b"]
    assert ledger.pop(3) is not None
    assert window.unacked == {1}


@pytest.mark.parametrize(
    ("tag", "multiple", "expected"),
    [(1, False, "a"), (2, True, "ab"), (3, True, "abc"), (0, True, "abc")],
)
def test_what_is_taken(ledger: Ledger, tag: int, multiple: bool, expected: str) -> None:
    assert names(ledger.take(tag, multiple)) == list(expected)
    assert names(ledger.take_all()) == [name for name in "abc" if name not in expected]
    assert len(ledger) == 0


@pytest.mark.parametrize(("tag", "multiple"), [(0, False), (4, False), (4, True), (-1, False)])
def test_an_unknown_tag_is_refused(ledger: Ledger, tag: int, multiple: bool) -> None:
    with pytest.raises(PreconditionFailedError, match=f"unknown delivery tag {tag}"):
        ledger.take(tag, multiple)
    assert len(ledger) == 3


def test_a_tag_is_taken_once(ledger: Ledger) -> None:
    ledger.take(2)
    assert ledger.pop(2) is None
    with pytest.raises(PreconditionFailedError):
        ledger.take(2)
    assert names(ledger.take(0, multiple=True)) == ["a", "c"]
    assert names(ledger.take(0, multiple=True)) == []


def test_what_was_put_back_is_as_it_was(ledger: Ledger, window: Window) -> None:
    ledger.put_back(ledger.take(2, multiple=True))
    assert window.unacked == {1, 2, 3}
    assert names(ledger.take_all()) == ["a", "b", "c"]


def test_what_fails_puts_its_deliveries_back(ledger: Ledger, window: Window) -> None:
    with pytest.raises(LeaseLostError), ledger.or_put_back(ledger.take(1)):
        raise LeaseLostError
    assert window.unacked == {1, 2, 3}
    with ledger.or_put_back(ledger.take(1)):
        pass
    assert window.unacked == {2, 3}


def test_of_many_threads_one_takes_a_delivery() -> None:
    ledger = Ledger()
    tags = [ledger.add(entry(str(number))) for number in range(500)]
    taken: list[int] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for tag in tags:
            if ledger.pop(tag) is not None:
                taken.append(tag)
            ledger.add(entry("more"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == tags
    assert sorted(ledger.take_all()) == list(range(501, 2501))


# -- acks ------------------------------------------------------------------------------------


class Sender:
    """Keeps what is sent; fails or loses what it is told to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: BaseException | None = None
        self.lost: Sequence[Claim] = ()

    def __call__(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        if self.error is not None:
            raise self.error
        self.sent += [claim.id for claim in claims]
        return self.lost


def claim(name: str) -> Claim:
    return Claim("q", name)


def test_acks_are_sent_together_in_order() -> None:
    hurried: list[None] = []
    acks, send = Acks(lambda: hurried.append(None)), Sender()
    assert [acks.add([claim(name)]) for name in "ab"] == [1, 2]
    assert acks.add([claim("c"), claim("d")]) == 4
    assert len(hurried) == 1
    acks.flush(send)
    acks.flush(send)
    assert send.sent == ["a", "b", "c", "d"]
    acks.add([claim("e")])
    assert len(hurried) == 2


@pytest.mark.parametrize("error", [ConnectionLostError(), KeyboardInterrupt()])
def test_acks_that_could_not_be_sent_wait_in_their_order(error: BaseException) -> None:
    acks, send = Acks(lambda: None), Sender()
    acks.add([claim("a"), claim("b")])
    send.error = error
    with pytest.raises(type(error)):
        acks.flush(send)
    acks.add([claim("c")])
    send.error = None
    acks.flush(send)
    assert send.sent == ["a", "b", "c"]


def test_acks_that_come_while_others_are_sent_are_hurried() -> None:
    hurried: list[None] = []
    acks = Acks(lambda: hurried.append(None))
    acks.add([claim("a")])

    def send(claims: Sequence[Claim]) -> Sequence[Claim]:
        # As another thread does that added one before these were taken.
        acks.add([claim("b"), claim("c")])
        hurried.clear()
        return ()

    acks.flush(send)
    assert hurried == [None]


def test_lost_claims_are_reported_once() -> None:
    acks, send = Acks(lambda: None), Sender()
    send.lost = [claim("a")]
    acks.add([claim("a")])
    acks.flush(send)
    with pytest.raises(LeaseLostError, match="1 message"):
        acks.raise_lost()
    acks.raise_lost()
