"""The tests of a store, on beanstalkd."""

from __future__ import annotations

from kombu_core.testing.store import StoreContract


class TestBeanstalkStore(StoreContract):
    """Each test has tubes of its own."""
