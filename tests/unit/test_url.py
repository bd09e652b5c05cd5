"""Broker URLs: every part read and written again, and no password shown, whatever is wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kombu_core.exceptions import ConfigurationError
from kombu_core.typed_json import dumps
from kombu_core.url import BrokerURL, Secret, is_secret_name, parse, scheme_of, split_urls

PASSWORD = "hunter2/@:?#é"
ENCODED = "hunter2%2F%40%3A%3F%23%C3%A9"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", {}),
        ("memory://name", {"hostname": "name"}),
        ("django://Alias", {"hostname": "Alias"}),
        ("amqp://host", {"hostname": "host"}),
        ("amqp://host/", {"hostname": "host"}),
        ("AMQP://host//", {"hostname": "host", "virtual_host": "/"}),
        ("amqp://host/%2F", {"hostname": "host", "virtual_host": "/"}),
        ("amqp://host/%2Fa", {"hostname": "host", "virtual_host": "/a"}),
        ("amqp://host/a/b", {"hostname": "host", "virtual_host": "a/b"}),
        ("amqp:///vhost", {"virtual_host": "vhost"}),
        ("redis://:5", {"port": 5}),
        ("redis://h:65535/0", {"hostname": "h", "port": 65535, "virtual_host": "0"}),
        ("redis://h:/0", {"hostname": "h", "virtual_host": "0"}),
        ("x://u@h", {"userid": "u", "hostname": "h"}),
        ("x://u:@h", {"userid": "u", "hostname": "h"}),
        ("x://:p@h", {"password": Secret("p"), "hostname": "h"}),
        ("x://u%40v:a:b@h", {"userid": "u@v", "password": Secret("a:b"), "hostname": "h"}),
        ("x://u:a@b@h", {"userid": "u", "password": Secret("a@b"), "hostname": "h"}),
        (f"x://u:{ENCODED}@h", {"userid": "u", "password": Secret(PASSWORD), "hostname": "h"}),
        ("x://[::1]:6/v", {"hostname": "::1", "port": 6, "virtual_host": "v"}),
        ("x://u:p@[fe80::1%25eth0]", {
            "userid": "u", "password": Secret("p"), "hostname": "fe80::1%eth0",
        }),
        ("x://h?a=1&b=%26+c&d=", {"hostname": "h", "query": {"a": "1", "b": "& c", "d": ""}}),
        ("x://h/v?a=/@:", {"hostname": "h", "virtual_host": "v", "query": {"a": "/@:"}}),
        ("redis+socket:///run/r.sock", {"socket_path": "/run/r.sock"}),
        ("redis+socket://u:p@/run/r%20x%40.sock?virtual_host=3&a=1", {
            "userid": "u", "password": Secret("p"), "socket_path": "/run/r x@.sock",
            "virtual_host": "3", "query": {"a": "1"},
        }),
        ("sqlalchemy+sqlite:////tmp/x.db", {"virtual_host": "/tmp/x.db"}),
        ("a.b-c+1://h", {"hostname": "h"}),
        ("  memory://  ", {}),
    ],
)  # fmt: skip
def test_the_parts_of_a_url(text: str, expected: dict[str, object]) -> None:
    url = parse(text)
    found = {item.name: getattr(url, item.name) for item in dataclasses.fields(url)}
    empty = dict.fromkeys(found) | {"query": {}, "is_opaque": False}
    scheme = text.strip().partition(":")[0].lower()
    assert found == empty | {"scheme": scheme, "raw": Secret(text.strip())} | expected


names = st.text(st.characters(codec="utf-8"), min_size=1)
hosts = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
addresses = st.ip_addresses(v=6).map(str)
urls = st.builds(
    BrokerURL,
    scheme=st.sampled_from(["amqp", "redis+cluster", "x.y-1"]),
    hostname=st.none() | hosts | addresses,
    port=st.none() | st.integers(1, 65535),
    userid=st.none() | names,
    password=st.none() | st.builds(Secret, names),
    virtual_host=st.none() | names,
    query=st.dictionaries(st.text(st.characters(codec="utf-8")), names, max_size=3),
)


@given(urls)
@example(BrokerURL("x", "h", virtual_host="/"))
def test_a_url_comes_back(url: BrokerURL) -> None:
    again = parse(url.as_uri(include_password=True))
    assert again == url
    assert hash(again) == hash(url)
    for item in dataclasses.fields(url):
        if item.name != "raw":
            assert getattr(again, item.name) == getattr(url, item.name)


@given(st.text(st.characters(codec="utf-8"), min_size=1), names)
def test_a_socket_url_comes_back(path: str, virtual_host: str) -> None:
    url = BrokerURL("x+socket", socket_path="/" + path, virtual_host=virtual_host)
    assert parse(url.as_uri(include_password=True)) == url


def test_the_spelling_does_not_matter() -> None:
    assert parse("amqp://h//?b=1&a=2") == parse("AMQP://h/%2f?a=2&b=%31")
    assert parse("amqp://h") != parse("amqp://h:5672")
    assert parse("x://u:p@h") != parse("x://u:q@h")
    assert parse("x://h") != "x://h"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "scheme"),
        ("localhost", "scheme"),
        ("1x://h", "scheme"),
        ("x:/h", "scheme"),
        ("x://h:0", "within 1 and 65535"),
        ("x://h:65536", "within 1 and 65535"),
        ("x://h:" + "9" * 5000, "within 1 and 65535"),
        ("x://h:-1", "no number"),
        ("x://h:١", "no number"),
        ("x://::1:5672", "brackets"),
        ("x://[::1", "IPv6"),
        ("x://[name]:1", "IPv6"),
        ("x://[::1]x", "IPv6"),
        ("x://a b", "host"),
        ("x://a,b", "host"),
        ("x://a%0Ab", "host"),
        ("x://%FF", "host"),
        ("x://%FF@h", "user"),
        ("x://u:%FF@h", "password"),
        ("x://h/%FF", "path"),
        ("x://h?a=%FF", "query"),
        ("x://h?a=1&a=2", "twice"),
        ("x://h/v#f", "%23"),
        ("x://h\nx", "control"),
        ("x://h:1/v@w", "%40"),
        ("x://u:p@h?a=v@w", "%40"),
        ("x+socket://h", "socket"),
        ("x+socket:///", "socket"),
    ],
)
def test_a_bad_url_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse(text)


# -- urls in lists ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_urls", "expected"),
    [
        ("a://", ("a://",)),
        ("a://x;b://y", ("a://x", "b://y")),
        (" a://x ; b://y ; ", ("a://x", "b://y")),
        ("a://u:p;q@h;b://", ("a://u:p;q@h", "b://")),
        (["a://x;b://y", "c://"], ("a://x", "b://y", "c://")),
    ],
)
def test_several_urls(given_urls: str | list[str], expected: tuple[str, ...]) -> None:
    assert split_urls(given_urls) == expected


@pytest.mark.parametrize("nothing", ["", " ; ", [], [""]])
def test_no_url_is_an_error(nothing: str | list[str]) -> None:
    with pytest.raises(ConfigurationError):
        split_urls(nothing)


def test_the_scheme_alone() -> None:
    assert scheme_of("SQLAlchemy+mssql+pyodbc://anything at all") == "sqlalchemy+mssql+pyodbc"


# -- secrets ---------------------------------------------------------------------------------


def test_a_uri_hides_the_password() -> None:
    url = parse("x://u:hunter2@h:1//?sslpassword=hunter2&token=hunter2&a=1")
    assert url.as_uri() == "x://u:**@h:1//?a=1&sslpassword=**&token=**"
    assert url.as_uri(mask="") == "x://u:@h:1//?a=1&sslpassword=&token="
    assert url.as_uri(include_password=True).count("hunter2") == 3
    assert url.raw.reveal().count("hunter2") == 3


def test_nothing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    url = parse("x://u:hunter2@h?password=hunter2")
    logging.getLogger(__name__).warning("%s %r %s", url, url, url.password)
    shown = [caplog.text, str(url), repr(url), f"{url}", f"{url.password:>9}", repr(url.raw)]
    shown += [str(url.password), "%s" % url.password, repr([url]), str(copy.deepcopy(url.raw))]  # noqa: UP031
    assert "**" in shown[0]
    assert not any("hunter2" in text for text in shown)


def test_a_secret_leaves_only_on_purpose() -> None:
    secret = Secret("hunter2")
    for attempt in (pickle.dumps, json.dumps, dumps, vars):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each has its own
            attempt(secret)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps(parse("x://u:hunter2@h"))
    assert secret.reveal() == "hunter2"
    assert copy.copy(secret) == copy.deepcopy(secret) == Secret("hunter2")
    assert secret != Secret("other")
    assert secret != "hunter2"
    assert hash(secret) == hash(Secret("hunter2"))
    assert secret
    assert not Secret("")


marks = st.text(st.sampled_from("/@:?#;%&=[]é \n1"), max_size=6)


@given(marks, marks, st.sampled_from(["", "/v", ":5672/", ":x", "?a=1&a=2", "#f", "/%FF"]))
@example("", "/x", "")
@example("123/", "", "")
@example("@/", "", "")
@example("@?", "", "")
@example("5?", "#", ":1")
def test_no_error_quotes_a_password(before: str, after: str, end: str) -> None:
    # Encoded or not: what is no URL because of it must not show any of it.
    text = f"x://user:{before}hunter2{after}@host{end}"
    error: ConfigurationError | None = None
    try:
        shown = repr(parse(text))
    except ConfigurationError as exc:
        error = exc
        shown = "".join(traceback.format_exception(exc))
        shown = "".join(line for line in shown.splitlines() if not line.startswith("    "))
    assert "hunter2" not in shown
    assert error is None or (error.__cause__ is None and error.__context__ is None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s+pg://u:hunter2@h/db?x=1", "s+pg://u:**@h/db?x=1"),
        ("s+pg://u:a/hunter2@h/db", "s+pg://u:**@h/db"),
        ("s+pg://u:a@hunter2@h/db", "s+pg://u:**@h/db"),
        ("s+pg://u:a?hunter2@h/db", "s+pg://**"),
        ("s+pg://u@h/db?password=hunter2&x=1", "s+pg://u@h/db?password=**&x=1"),
        ("s+mssql://?odbc_connect=PWD%3Dhunter2", "s+mssql://?odbc_connect=**"),
        ("s+sqlite:////tmp/a@b:c.db", "s+sqlite:////tmp/a@b:c.db"),
        ("s+sqlite://", "s+sqlite://"),
    ],
)
def test_an_opaque_url_is_carried_and_redacted(text: str, shown: str) -> None:
    url = parse(text, opaque=True)
    assert url.raw.reveal() == url.as_uri(include_password=True) == text
    assert url.as_uri() == str(url) == shown
    assert "hunter2" not in repr(url)
    assert url == parse(text, opaque=True)
    assert url != parse(text + "x", opaque=True)


def test_names_of_secrets() -> None:
    assert all(map(is_secret_name, ("password", "sasl_passwd", "api_key", "auth-token", "PWD")))
    assert not any(map(is_secret_name, ("virtual_host", "keyprefix", "timeout", "ssl_ca")))
