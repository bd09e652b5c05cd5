"""The pytest plugin: what a missing broker means, the markers, the guard and the token."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "kombu_core.testing.plugin")

NEEDS_REDIS = """
    import pytest

    @pytest.mark.broker("redis")
    def test_by_marker(): pass

    def test_by_fixture(redis_server): pass
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("KOMBU_REQUIRE_BROKERS", raising=False)
    monkeypatch.delenv("KOMBU_TEST_REDIS_URL", raising=False)
    return pytester


def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu_core.testing.brokers.RedisServer.binaries", ("no-such-server",))


def test_a_missing_broker_skips(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    without_redis(monkeypatch)
    inner.makepyfile(NEEDS_REDIS)
    result = inner.runpytest_inprocess(*PLUGIN, "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*redis is not installed*"])


def test_a_missing_broker_fails_where_all_are_required(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_redis(monkeypatch)
    monkeypatch.setenv("KOMBU_REQUIRE_BROKERS", "1")
    inner.makepyfile(NEEDS_REDIS)
    inner.runpytest_inprocess(*PLUGIN).assert_outcomes(errors=2)


def test_a_url_replaces_a_missing_broker(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_redis(monkeypatch)
    monkeypatch.setenv("KOMBU_TEST_REDIS_URL", "redis://broker.example")
    inner.makepyfile(NEEDS_REDIS)
    inner.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=2)


def test_tests_that_need_no_broker_can_be_selected(inner: pytest.Pytester) -> None:
    inner.makepyfile(NEEDS_REDIS + "\n    def test_alone(): pass\n")
    inner.runpytest_inprocess(*PLUGIN, "-m", "not broker").assert_outcomes(passed=1, deselected=2)


def test_the_markers_are_known(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.requires("priority")
        def test_one(): pass
        """
    )
    inner.runpytest_inprocess(*PLUGIN, "--strict-markers").assert_outcomes(passed=1)


def test_an_unknown_broker_is_an_error(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.broker("rdis")
        def test_one(): pass
        """
    )
    inner.runpytest_inprocess(*PLUGIN).stdout.fnmatch_lines(["*no broker 'rdis'; known: *redis*"])


def test_a_thread_left_behind_is_an_error(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kombu_core.testing.plugin._THREAD_GRACE", 0.05)
    inner.makepyfile(
        """
        import threading

        release = threading.Event()

        def test_one():
            threading.Thread(target=release.wait, name="forgotten").start()

        def test_two():
            release.set()

        def test_daemons_may_stay():
            threading.Thread(target=threading.Event().wait, args=(1,), daemon=True).start()
        """
    )
    result = inner.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*threads left: forgotten*"])


def test_a_token_is_unique_and_names_its_test(token: str, request: pytest.FixtureRequest) -> None:
    assert token.endswith("_a_token_is_unique_an")
    assert len(token) == 8 + 1 + 20
