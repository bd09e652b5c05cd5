"""The pytest plugin of the kit: real brokers as fixtures, names of their own, no threads left.

Load it with `-p kombu_core.testing.plugin`, or with `pytest_plugins` in a top-level conftest. A
broker whose binary is missing skips the tests that want it, and fails them where
`KOMBU_REQUIRE_BROKERS=1` is set.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Generator, Iterator
from typing import Final, NoReturn

import pytest

# Before anything imports it; without this its assertions fail without saying why.
pytest.register_assert_rewrite("kombu_core.testing.contract", "kombu_core.testing.store")

from kombu_core.testing.brokers import (  # noqa: E402
    BROKERS,
    BrokerMissingError,
    BrokerServer,
    open_server,
    variable,
)

#: Fixture names that make a test one that needs a broker.
_FIXTURES: Final = {f"{name}_server": name for name in BROKERS}

#: What a failure has to do with capabilities.
_PROMISED: Final = (
    "It runs because the capabilities say that the transport can do that. If it cannot, say so by\n"
    "False (a store in its StoreCapabilities): then the core refuses what needs it, by name, and\n"
    "the kit tests the refusal instead. See 'Say what you cannot do' in docs/write-a-transport.md."
)

#: What a failure of a test with several processes may have to do with them.
_SHARED: Final = (
    "It starts other processes, because the capabilities say shared=True. If what is stored is in\n"
    "this process only, say shared=False: then such tests are skipped."
)

#: How long a thread may take to end after its test, in seconds.
_THREAD_GRACE: Final = 2.0


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, for `--strict-markers`."""
    config.addinivalue_line(
        "markers", "requires(*capabilities): needs a transport that has these capabilities"
    )
    config.addinivalue_line(
        "markers",
        "broker(*names): needs the installed brokers of these names, among "
        f"{', '.join(sorted(BROKERS))}; implied by the fixtures NAME_server",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a broker's fixture, so that `-m 'not broker'` selects the rest."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _FIXTURES:
                item.add_marker(pytest.mark.broker(_FIXTURES[fixture]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose broker is not installed."""
    for marker in item.iter_markers("broker"):
        for name in marker.args:
            if name not in BROKERS:
                raise pytest.UsageError(f"no broker {name!r}; known: {', '.join(sorted(BROKERS))}")
            if not (BROKERS[name].is_installed() or _is_external(name)):
                _report_missing(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a failed test what the transport promised that made it run."""
    report = yield
    names = [name for mark in item.iter_markers("requires") for name in mark.args]
    if report.failed and names:
        report.sections.append((f"this test is for {', '.join(names)}", _PROMISED))
    if report.failed and "start_peer" in getattr(item, "fixturenames", ()):
        report.sections.append(("this test is for shared", _SHARED))
    return report


@pytest.fixture(scope="session")
def redis_server() -> Iterator[BrokerServer]:
    """A Redis, started once a session."""
    yield from _serve("redis")


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[BrokerServer]:
    """A RabbitMQ, started once a session."""
    yield from _serve("rabbitmq")


@pytest.fixture(scope="session")
def beanstalkd_server() -> Iterator[BrokerServer]:
    """A beanstalkd with a binlog, started once a session."""
    yield from _serve("beanstalkd")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[BrokerServer]:
    """A PostgreSQL, started once a session."""
    yield from _serve("postgres")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[BrokerServer]:
    """A MariaDB, started once a session."""
    yield from _serve("mariadb")


@pytest.fixture
def token(request: pytest.FixtureRequest) -> str:
    """A part for names on a shared broker: unique, short, and telling in its logs."""
    test = re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))
    return f"{secrets.token_hex(4)}_{test[:20].strip('_')}"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test after which a thread of its own keeps the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _THREAD_GRACE
    while left := _blocking_threads() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left: {', '.join(sorted(thread.name for thread in left))}")
        time.sleep(0.01)


def _blocking_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon}


def _serve(name: str) -> Iterator[BrokerServer]:
    try:
        server = open_server(BROKERS[name])
    except BrokerMissingError as error:
        _report_missing(str(error))
    with server:
        yield server


def _is_external(name: str) -> bool:
    return bool(os.environ.get(variable(name)))


def _report_missing(reason: str) -> NoReturn:
    if os.environ.get("KOMBU_REQUIRE_BROKERS") == "1":
        pytest.fail(f"{reason}, and KOMBU_REQUIRE_BROKERS=1 is set", pytrace=False)
    pytest.skip(reason)
