"""The document table as beanstalkd keeps it: a root, and pages that never change. No I/O.

The root is a job that lists the pages; each page is a job with the documents of a range of keys. A
change writes new pages, then a new root. The root's priority counts down, so the newest is first in
its tube, and of two that came from the same parent the one that was there first: putting a root
that comes first is the moment at which a change happens, all of it or nothing.

Each root has a mark, an empty job that is deleted before the next root is put. Who finds the mark
of a root knows that the table has not moved, and needs not to read what may be a long list.

    root   {"number": 7, "base": …, "past": [ids of roots before], "waste": [ids of pages before],
            "pages": [[first key, id], …], "mark": id}
    page   [[key, version, born, length], …] LF, then the values one after the other
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

#: Bytes of a page after which it is split.
PAGE_BYTES: Final = 8192
#: Roots before, that a root remembers.
PAST: Final = 16
#: Replaced pages of roots before, that it remembers to delete.
_WASTE: Final = 4
#: The priority of the root that there would have to be before the first.
_TOP: Final = (1 << 32) - 1


class Row(NamedTuple):
    """One document. `born` is the version that it had when its key came into being."""

    version: int
    born: int
    value: bytes


#: The documents of a page, by key and in their order.
Page = Mapping[str, Row]


class Root(NamedTuple):
    """The table at one moment. Without a job (0) it is the empty one."""

    job: int = 0
    number: int = 0
    #: What versions begin with, so that none comes back after all data were lost.
    base: int = 0
    #: Jobs of the roots before, the last first.
    past: tuple[int, ...] = ()
    #: First key and job of each page, in order.
    pages: tuple[tuple[str, int], ...] = ()
    #: Pages that it replaced, and some of those before: its writer may die before he deletes them.
    waste: tuple[int, ...] = ()
    #: The job that is there as long as no other root follows; if it is not, one may.
    mark: int = 0

    def page_at(self, key: str) -> int:
        """Return the position of the page where `key` is or would be; 0 if there are none."""
        return max(0, bisect_right(self.pages, key, key=lambda page: page[0]) - 1)

    def pages_of(self, keys: Iterable[str]) -> set[int]:
        """Return the jobs of the pages where `keys` are or would be."""
        return {self.pages[self.page_at(key)][1] for key in keys} if self.pages else set()

    def pages_from(self, prefix: str) -> list[int]:
        """Return the jobs of the pages where keys that begin with `prefix` may be."""
        found = []
        for first, job in self.pages[self.page_at(prefix) :]:
            if first > prefix and not first.startswith(prefix):
                break
            found.append(job)
        return found


class Change(NamedTuple):
    """How a table becomes the next one."""

    version: int
    #: First key and bytes of each new page, and its position: that of the pages which it replaces.
    new: Sequence[tuple[int, str, bytes]]
    #: Positions of the pages that are replaced.
    replaced: frozenset[int]


def change(root: Root, pages: Mapping[int, Page], changes: Mapping[str, bytes | None]) -> Change:
    """Return what makes the next table of `root` by `changes`; `pages` has those of the keys."""
    version = root.base + root.number + 1
    touched: dict[int, dict[str, Row]] = {}
    for key, value in changes.items():
        position = root.page_at(key)
        if position not in touched:
            touched[position] = dict(pages[root.pages[position][1]]) if root.pages else {}
        rows = touched[position]
        before = rows.pop(key, None)
        if value is not None:
            rows[key] = Row(version, before.born if before else version, value)
    new = []
    for position, rows in sorted(touched.items()):
        new += [(position, min(part), dump_page(part)) for part in _split(rows)]
    return Change(version, new, frozenset(touched) if root.pages else frozenset())


def next_root(root: Root, made: Change, jobs: Sequence[int]) -> Root:
    """Return the root after a change whose new pages, then its mark, have these jobs."""
    *written, mark = jobs
    pages = [
        ((position, 0), page)
        for position, page in enumerate(root.pages)
        if position not in made.replaced
    ]
    pages += [
        ((position, 1), (first, job))
        for (position, first, _), job in zip(made.new, written, strict=True)
    ]
    past = ((root.job,) if root.job else ()) + root.past
    ordered = tuple(page for _, page in sorted(pages))
    replaced = tuple(root.pages[position][1] for position in sorted(made.replaced))
    waste = replaced + root.waste[:_WASTE]
    return Root(0, root.number + 1, root.base, past[:PAST], ordered, waste, mark)


def root_priority(root: Root) -> int:
    """Return the priority of a root's job; the newest is first."""
    return _TOP - root.number


def _split(rows: dict[str, Row]) -> list[dict[str, Row]]:
    """Cut the rows of a page that grew too large; no rows make no page."""
    parts: list[dict[str, Row]] = []
    size = 0
    for key in sorted(rows):
        row = rows[key]
        length = len(key) + len(row.value) + 32
        if not parts or size + length > PAGE_BYTES:
            parts.append({})
            size = 0
        parts[-1][key] = row
        size += length
    return parts


def dump_page(rows: Page) -> bytes:
    """Return the bytes of a page."""
    head = [[key, row.version, row.born, len(row.value)] for key, row in rows.items()]
    return b"\n".join((_dump(head), b"".join(row.value for row in rows.values())))


def load_page(raw: bytes) -> dict[str, Row]:
    """Read a page."""
    head, _, values = raw.partition(b"\n")
    rows = {}
    at = 0
    for key, version, born, length in json.loads(head):
        rows[key] = Row(version, born, values[at : at + length])
        at += length
    return rows


def dump_root(root: Root) -> bytes:
    """Return the bytes of a root."""
    value = root._asdict()
    del value["job"]
    return _dump(value)


def load_root(job: int, raw: bytes) -> Root:
    """Read the root in a job."""
    value = json.loads(raw)
    pages = tuple((first, page) for first, page in value["pages"])
    past, waste = tuple(value["past"]), tuple(value["waste"])
    # Without a mark nobody takes it for sure that the table has not moved from this root.
    mark = value.get("mark", 0)
    return Root(job, value["number"], value["base"], past, pages, waste, mark)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
