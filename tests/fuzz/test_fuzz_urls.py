"""Any text as a URL: an address that says again what it said, or an error of ours."""

from __future__ import annotations

import string
from itertools import chain
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core import Connection
from kombu_core.exceptions import ConfigurationError, KombuError
from kombu_core.plugins import default_plugins
from kombu_core.url import parse, scheme_of, split_urls

PIECES: Final = [
    *("amqp", "redis+socket", "sqla+postgresql", "memory", "x", "://", "//", "/", ":", "@", ";"),
    *("?", "#", "&", "=", "%", "%2F", "%FF", "%00", "[", "]", "[::1]", "::1", "localhost"),
    *("127.0.0.1", "5672", "99999", "-1", "user:pw@", "virtual_host=/", "lease=5", "é", "\u0661"),
    *("ssl_cert_reqs=none", " ", "\n", "\0"),
]

urls = st.lists(st.sampled_from(PIECES) | st.text(string.printable, max_size=4), max_size=12).map(
    "".join
)


@given(urls | st.text())
def test_parsing(url: str) -> None:
    try:
        found = parse(url)
    except ConfigurationError:
        return
    assert parse(found.as_uri(include_password=True)) == found
    assert found.scheme == scheme_of(url)
    parse(url, opaque=True).as_uri()


@given(urls | st.lists(urls, max_size=3))
def test_splitting(given_urls: str | list[str]) -> None:
    try:
        found = split_urls(given_urls)
    except ConfigurationError:
        return
    assert found
    assert all(found)


@pytest.mark.parametrize(
    "scheme",
    [
        *default_plugins.schemes(),
        *chain.from_iterable(
            (f"{scheme}+postgresql", f"{scheme}+sqlite", f"{scheme}+mysql+pymysql")
            for scheme in ("sqla",)
            if scheme in default_plugins.schemes()
        ),
    ],
)
def test_connections_of_each_transport(scheme: str) -> None:
    @given(urls, st.dictionaries(st.sampled_from(["lease", "prefix", "ssl_cert_reqs"]), st.text()))
    def check(rest: str, options: dict[str, str]) -> None:
        try:
            connection = Connection(f"{scheme}://{rest}", transport_options=options)
            connection.info()
            # What the transport makes of it, without asking the network.
            connection.clone()._make_transport()
        except KombuError:
            return

    check()
