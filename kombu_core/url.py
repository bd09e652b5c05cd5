"""Broker URLs: parsed once, and never again shown with the password in them.

The form is ``scheme://user:password@host:port/virtual_host?option=value``, with every part after
the scheme optional and percent-encoded. Two kinds of URL have another one:

* ``…+socket:///path/to/socket?virtual_host=0`` names a unix socket;
* an *opaque* URL is read by somebody else, as SQLAlchemy, and only carried here.

The errors of this module never quote what could be a piece of a password: a '/' or '@' that was
not encoded makes any part of it look like a host or a port. They have no cause for the same
reason: what they are raised from may quote the URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn, final
from urllib.parse import parse_qsl, quote, unquote

from kombu_core.exceptions import ConfigurationError

MASK: Final = "**"
MAX_PORT: Final = 65535

# RFC 3986, section 3.1.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NEXT_URL: Final = re.compile(r"\s*;\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[^\[\]/?#@]+)?)\](?::(.*))?", re.DOTALL)
_BAD_IN_HOST: Final = re.compile(r"[\s\x00-\x1f\x7f\[\]<>\"'\\^`{|}:;,]")
_OPAQUE_USERINFO: Final = re.compile(r"([^:/?#@]*):(.*)@", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    r"passw|pwd|secret|token|credential|api_?key|access_?key|private_?key|odbc_connect", re.I
)


@final
class Secret:
    """A text that shows itself only to who asks with `reveal`.

    It is not pickled and has no JSON form; pass what `reveal` returns on purpose.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the text."""
        return self.__text

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, specification: str) -> str:
        return format(MASK, specification)

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __eq__(self, other: object) -> bool:
        return self.__text == other.__text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Secret is not pickled: pass what reveal() returns on purpose")


def is_secret_name(name: str) -> bool:
    """Tell by the name of an option whether its value is to be hidden."""
    return _SECRET_NAME.search(name) is not None


class RedactedDict(dict[str, Any]):
    """Options by name, which shows those whose names sound like passwords as `**`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {_shown(name, self[name])}' for name in self)}}}"


def _shown(name: str, value: Any) -> str:
    if is_secret_name(str(name)) and value:
        return repr(MASK)
    if isinstance(value, Mapping):
        return repr(RedactedDict(value))
    return repr(value)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BrokerURL:
    """The parts of a broker URL, percent-decoded; what the URL leaves out is None.

    Two are equal if all their parts are, however they were spelled.
    """

    scheme: str
    hostname: str | None = None
    port: int | None = None
    userid: str | None = None
    password: Secret | None = None
    #: The path without its first slash: ``//`` and ``/%2F`` are ``/``, and ``/`` is None.
    virtual_host: str | None = None
    #: The path of the socket, if the scheme ends in ``+socket``.
    socket_path: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    #: The URL as it was written, for drivers that read a form of their own.
    raw: Secret = field(default=Secret(""))
    #: Only `raw` and `scheme` count: the rest of the URL was not looked at.
    is_opaque: bool = False

    def as_uri(self, *, include_password: bool = False, mask: str = MASK) -> str:
        """Return a URL that parses to an equal one; without passwords unless asked for.

        Values of the query whose names sound like passwords are hidden as well.
        """
        if self.is_opaque:
            text = self.raw.reveal()
            return text if include_password else _redact_opaque(text, mask)
        return "".join(
            (
                self.scheme,
                "://",
                self._userinfo(include_password, mask),
                self._host_and_port(),
                self._path(),
                self._query(include_password, mask),
            )
        )

    def _userinfo(self, include_password: bool, mask: str) -> str:
        if self.userid is None and self.password is None:
            return ""
        user = quote(self.userid or "", safe="")
        if self.password is None:
            return f"{user}@"
        shown = quote(self.password.reveal(), safe="") if include_password else mask
        return f"{user}:{shown}@"

    def _host_and_port(self) -> str:
        host = self.hostname or ""
        host = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="")
        return host if self.port is None else f"{host}:{self.port}"

    def _path(self) -> str:
        if self.socket_path is not None:
            return quote(self.socket_path, safe="/")
        return "" if self.virtual_host is None else "/" + quote(self.virtual_host, safe="/")

    def _query(self, include_password: bool, mask: str) -> str:
        values = dict(self.query)
        if self.socket_path is not None and self.virtual_host is not None:
            values["virtual_host"] = self.virtual_host
        pairs = [
            f"{quote(name, safe='')}={mask}"
            if is_secret_name(name) and not include_password
            else f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in sorted(values.items())
        ]
        return "?" + "&".join(pairs) if pairs else ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BrokerURL):
            return NotImplemented
        return self.as_uri(include_password=True) == other.as_uri(include_password=True)

    def __hash__(self) -> int:
        return hash(self.as_uri(include_password=True))

    def __repr__(self) -> str:
        return f"BrokerURL({self.as_uri()!r})"

    __str__ = as_uri


def split_urls(urls: str | Iterable[str]) -> tuple[str, ...]:
    """Return the URLs of ``a;b``, or of any number of such texts, in order.

    A semicolon separates only where a URL follows it.

    Raises:
        ConfigurationError: There is none.
    """
    texts = (urls,) if isinstance(urls, str) else tuple(urls)
    parts = (part.strip(" \t\r\n;") for text in texts for part in _NEXT_URL.split(text))
    found = tuple(part for part in parts if part)
    if not found:
        raise ConfigurationError("No broker URL was given")
    return found


def scheme_of(url: str) -> str:
    """Return the scheme, in lower case, without looking at the rest.

    Raises:
        ConfigurationError: There is none.
    """
    match = _SCHEME.match(url.strip())
    if match is None:
        raise ConfigurationError("A broker URL begins with a scheme, as in redis://localhost")
    return match[1].lower()


def parse(url: str, *, opaque: bool = False) -> BrokerURL:
    """Parse one broker URL.

    Args:
        url: The text.
        opaque: Look at the scheme only; `BrokerURL.raw` is for the driver.

    Raises:
        ConfigurationError: It makes no sense; the text says what, without quoting the URL.
    """
    url = url.strip()
    scheme = scheme_of(url)
    if opaque:
        return BrokerURL(scheme, raw=Secret(url), is_opaque=True)
    if _CONTROL.search(url):
        _fail(scheme, "it contains a control character or a line break")
    rest, hash_mark, _ = url[len(scheme) + 3 :].partition("#")
    if hash_mark:
        _fail(scheme, "write a '#' as %23")
    rest, _, query_text = rest.partition("?")
    authority, slash, path = rest.partition("/")
    userinfo, _, host_and_port = authority.rpartition("@")
    if ":" in authority and ("@" in path or "@" in query_text):
        # A password with a '/' or '?' in it looks like this, and its pieces must not be taken
        # for a port, a virtual host or an option, which are shown.
        _fail(scheme, "write '/' and '?' in the password as %2F and %3F, and other '@' as %40")
    userid, _, password = userinfo.partition(":")
    hostname, port = _parse_host(scheme, host_and_port)
    query = _parse_query(scheme, query_text)
    location = _decode(scheme, "path", path) or None
    socket_path = None
    if scheme.endswith("+socket"):
        if location is None:
            _fail(scheme, f"it needs the path of a socket, as {scheme}:///path/to/socket")
        socket_path, location = slash + location, query.pop("virtual_host", None) or None
    return BrokerURL(
        scheme=scheme,
        hostname=hostname,
        port=port,
        userid=_decode(scheme, "user", userid) or None,
        password=Secret(_decode(scheme, "password", password)) if password else None,
        virtual_host=location,
        socket_path=socket_path,
        query=query,
        raw=Secret(url),
    )


class _Host(NamedTuple):
    hostname: str | None
    port: int | None


def _parse_host(scheme: str, text: str) -> _Host:
    if text.startswith("["):
        match = _BRACKETED.fullmatch(text)
        if match is None:
            _fail(scheme, "what is in brackets is no IPv6 address")
        host, port = _decode(scheme, "host", match[1]), match[2]
    else:
        host, _, port = text.partition(":")
        if ":" in (port or "") and re.fullmatch(r"[0-9A-Fa-f:.]+", text):
            _fail(scheme, "write an IPv6 address in brackets")
        host = _decode(scheme, "host", host)
        if _BAD_IN_HOST.search(host):
            _fail(scheme, "the host name has a character that no name has")
    return _Host(host or None, _parse_port(scheme, port))


def _parse_port(scheme: str, text: str | None) -> int | None:
    if not text:
        return None
    # isascii: int() also reads the digits of other scripts.
    if not (text.isascii() and text.isdigit()):
        _fail(
            scheme, "the port is no number (write '/', '?', '@' in the password as %2F, %3F, %40)"
        )
    if len(text) > 5 or not 0 < int(text) <= MAX_PORT:
        _fail(scheme, f"the port is not within 1 and {MAX_PORT}")
    return int(text)


def _parse_query(scheme: str, text: str) -> RedactedDict:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        pairs = None
    if pairs is None:  # outside of the handler: see the module's text
        _fail(scheme, "the query is not UTF-8, or has too many fields")
    query = RedactedDict(pairs)
    if len(query) != len(pairs):
        _fail(scheme, "an option of the query is given twice")
    return query


def _decode(scheme: str, part: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass
    _fail(scheme, f"the {part} is not UTF-8 when it is percent-decoded")


def _fail(scheme: str, reason: str) -> NoReturn:
    raise ConfigurationError(f"Bad {scheme} URL: {reason}")


def _redact_opaque(text: str, mask: str) -> str:
    """Hide the password of a URL of unknown form: rather too much than too little."""
    prefix, _, rest = text.partition("://")
    rest, question, query = rest.partition("?")
    if "@" in query and ":" in rest:
        return f"{prefix}://{mask}"  # a '?' in the password: nothing after it can be told apart
    userinfo = _OPAQUE_USERINFO.match(rest)
    if userinfo is not None:
        rest = f"{userinfo[1]}:{mask}@{rest[userinfo.end() :]}"
    pairs = (
        f"{name}{equals}{mask if is_secret_name(unquote(name)) else value}"
        for name, equals, value in (pair.partition("=") for pair in re.split("[&;]", query))
    )
    return f"{prefix}://{rest}{question}{'&'.join(pairs)}"
