"""The fixtures of the store's tests, their short forms, and the check that no method is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest

from kombu_core.message import Envelope
from kombu_core.testing.store.methods import METHODS, call_form, describe, unwritten
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Put, Release, Store, Want

#: Opens one more store on the same virtual host, empty at the beginning of each test.
OpenStore = Callable[[], Store]

#: The session that most tests use; it has begun.
ME = "me"
#: A lease that no test outlives (seconds).
LONG = 60.0


class StoreFixtures:
    """What all topics share. A store's author has to have one fixture, `open_store`.

    It yields an `OpenStore`, from the class that inherits this or from a conftest.
    """

    @pytest.fixture
    def open_another(
        self, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[OpenStore]:
        """Opens stores that are closed at the end, and whose missing methods skip the test."""
        opened: list[Store] = []

        def open_one() -> Store:
            store = open_store()
            for name in unwritten(type(store)):
                waits = _Waits(f"waits until {type(store).__name__}.{name} is written")
                monkeypatch.setattr(type(store), name, waits, raising=False)
            opened.append(store)
            return store

        yield open_one
        for store in opened:
            if not isinstance(store.close, _Waits):
                store.close()

    @pytest.fixture
    def store(self, open_another: OpenStore, request: pytest.FixtureRequest) -> Store:
        """A store with the session `me`."""
        store = open_another()
        for mark in request.node.iter_markers("requires"):
            for name in mark.args:
                if not getattr(store.capabilities, name):
                    pytest.skip(f"the store does not have {name}")
        if not isinstance(store.begin, _Waits):
            store.begin(ME, LONG)
        return store

    @pytest.fixture
    def step(self, store: Store) -> float:
        """Seconds that the store's rounding may add to a time."""
        return store.capabilities.time_step

    @pytest.fixture
    def other(self, store: Store, open_another: OpenStore) -> Store:
        """Another store on the same virtual host, as of another process."""
        return open_another()

    @pytest.fixture
    def store_class(self, open_store: OpenStore) -> type:
        """What `open_store` opens; to be overridden where opening takes long."""
        return type(open_store())

    @pytest.mark.parametrize("name", METHODS)
    def test_the_method_is_written(self, store_class: type, name: str) -> None:
        if name in unwritten(store_class):
            text = f"{store_class.__name__}.{name} is not written yet.\n\n{describe(name)}"
            pytest.fail(text, pytrace=False)
        wanted, there = call_form(getattr(Store, name)), call_form(getattr(store_class, name))
        assert there[: len(wanted)] == wanted, f"the core calls it so: {describe(name)}"
        assert all(is_optional for _, is_optional in there[len(wanted) :])


class _Waits:
    """Stands for a method that is not written: it skips the test that calls it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        pytest.skip(self._reason)


# -- short forms -----------------------------------------------------------------------------


def put(store: Store, *bodies: str, queue: str = "q", **options: Any) -> CommitResult:
    """Commit a message for each body; `options` are those of `Put`."""
    puts = [Put(queue, Envelope(body.encode(), {}, {}), **options) for body in bodies]
    return store.commit(Batch(puts))


def claim(store: Store, limit: int = 100, *, queue: str = "q", session: str = ME) -> list[Claimed]:
    """Claim from one queue."""
    return store.claim([Want(queue, limit)], session, limit)


def bodies(claimed: Sequence[Claimed]) -> list[str]:
    """Return the bodies of what was claimed, in order."""
    return [each.content.body.decode() for each in claimed if isinstance(each.content, Envelope)]


def ack(store: Store, *claimed: Claimed, session: str = ME) -> CommitResult:
    """Commit an ack for each."""
    return store.commit(Batch(acks=[each.claim for each in claimed], session=session))


def release(
    store: Store, *claimed: Claimed, is_delivered: bool = True, session: str = ME
) -> CommitResult:
    """Commit a release for each."""
    releases = [Release(each.claim, is_delivered) for each in claimed]
    return store.commit(Batch(releases=releases, session=session))
