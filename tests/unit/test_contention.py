"""Turns and second tries."""

from __future__ import annotations

import threading

import pytest

from kombu_core.testing.harness import until
from kombu_core.virtual import contention
from kombu_core.virtual.contention import try_again, turn


def test_who_waited_longest_is_next() -> None:
    order: list[int] = []
    gate = turn("a file")

    def wait(number: int) -> None:
        with turn("a file"):
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(5)]
    with gate:
        for number, thread in enumerate(threads, 1):
            thread.start()
            until(lambda n=number: len(contention._turns["a file"]._waiting) == n)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    with gate:
        pass


def test_other_files_have_turns_of_their_own() -> None:
    with turn("one"), turn("two"), turn(None), turn(None):
        pass


def test_what_is_in_the_way_may_be_gone_next_time() -> None:
    errors = [ValueError("in the way"), ValueError("still"), None]

    def attempt() -> str:
        error = errors.pop(0)
        if error:
            raise error
        return "done"

    assert try_again(attempt, lambda error: True, 10) == "done"


def test_other_errors_and_lost_patience_are_raised() -> None:
    def attempt() -> str:
        tries.append(1)
        raise ValueError("in the way")

    tries: list[int] = []
    with pytest.raises(ValueError, match="in the way"):
        try_again(attempt, lambda error: False, 10)
    assert len(tries) == 1
    with pytest.raises(ValueError, match="in the way"):
        try_again(attempt, lambda error: True, 0)
    assert len(tries) == 2
