"""The document table in a beanstalkd: reading it through a cache, changing it, cleaning behind.

**Reading** asks for the root, in one round trip, and for the pages that are new. What a root lists
never changes, so a cache is right as long as the root is.

**A guard without a round trip.** A commit has to know that no document moved. It may rely on a root
that was seen up to `FRESH` seconds ago, because whoever changes a document waits for that long
before he says that it is done: a publish that starts after a bind returned sees the binding.

**And one that takes no time either.** A publisher may be stopped between that look and his put. So
he asks for the mark of the root in the same packet, after the put: if it is there, nothing had
moved. If it is not, he looks, and takes back what he put by what does not hold any more.

**Writing** is safe at each step: new pages that no root lists are orphans, which the next writer
deletes, and the new root is one job. See `table` for why that is a compare-and-set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.lock import Locks
from kombu_beanstalk.table import (
    Change,
    Page,
    Root,
    Row,
    change,
    dump_root,
    load_page,
    load_root,
    next_root,
    root_priority,
)
from kombu_beanstalk.wire import Reply, Wire, put
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ContentTooLargeError
from kombu_core.virtual.store import Conflict, Document

#: Seconds for which a root that was seen is relied on, and for which a writer waits at its end. By
#: the clocks of two machines, so the writer waits somewhat longer.
FRESH: Final = 0.005
_WAIT: Final = FRESH * 1.2

_ABSENT: Final = Row(0, 0, b"")


class Documents:
    """The document table of one virtual host. Thread-safe."""

    def __init__(self, wires: Wires, layout: Layout, locks: Locks, max_job_size: int) -> None:
        self._wires = wires
        self._layout = layout
        self._locks = locks
        self._max_job_size = max_job_size
        #: The last root and when it was asked for (monotonic seconds); replaced as one.
        self._seen: tuple[Root, float] = (Root(), float("-inf"))
        self._pages: dict[int, Page] = {}

    # -- reading ---------------------------------------------------------------------------

    def rows(
        self, keys: Iterable[str], *, age: float = 0.0, root: Root | None = None
    ) -> dict[str, Row]:
        """Return the documents of `keys`, of one moment at most `age` seconds ago.

        Of the moment of `root` if that is given and its pages are still there.
        """
        wanted = list(keys)
        while True:
            root = root or self.root(age)
            pages = self._load(root, root.pages_of(wanted))
            if pages is not None:
                return {key: _row(root, pages, key) for key in wanted}
            root = None

    def read(self, keys: Sequence[str]) -> list[Document]:
        """Return the documents of `keys`, as they are now."""
        rows = self.rows(keys)
        return [Document(key, rows[key].version, rows[key].value) for key in keys]

    def scan(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""
        while True:
            root = self.root()
            wanted = root.pages_from(prefix)
            pages = self._load(root, wanted)
            if pages is not None:
                keys = (key for page in wanted for key in pages[page] if key.startswith(prefix))
                return sorted(keys)

    def root(self, age: float = 0.0) -> Root:
        """Return the root of a moment at most `age` seconds ago."""
        root, seen = self._seen
        if age and time.monotonic() - seen < age:
            return root
        asked = time.monotonic()
        (reply,) = self._wires.ask([b"peek-ready"], enter=self._layout.topology)
        return self._see(reply, asked)

    def _see(self, reply: Reply, asked: float) -> Root:
        root, seen = self._seen
        if reply.status != b"FOUND":
            root = Root()
        elif reply.number != root.job:
            root = load_root(reply.number, reply.body)
        if asked > seen:
            self._seen = (root, asked)
        return root

    def _load(self, root: Root, jobs: Collection[int]) -> Mapping[int, Page] | None:
        """Return at least these pages; None if they are gone, because the table moved."""
        pages = self._pages
        missing = [job for job in jobs if job not in pages]
        if missing:
            replies = self._wires.ask([b"peek %d" % job for job in missing])
            if any(reply.status != b"FOUND" for reply in replies):
                return None
            # A new dictionary, as other threads may read the old one.
            there = {job for _, job in root.pages}
            pages = {job: page for job, page in pages.items() if job in there}
            pages |= {reply.number: load_page(reply.body) for reply in replies}
            self._pages = pages
        return pages

    # -- writing ---------------------------------------------------------------------------

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        prepare: Callable[[Mapping[str, Row]], object],
        also: Collection[str] = (),
    ) -> dict[str, int]:
        """Apply all changes if every expected version still holds; returns the new versions.

        Args:
            changes: New values by key; None deletes.
            expect: Versions that must hold.
            prepare: Called with the documents of `also` when nothing speaks against the change;
                what it raises ends it. Called again if another writer was faster.
            also: Keys that `prepare` wants to know.

        Raises:
            Conflict: A version moved; nothing was changed.
            ContentTooLargeError: A document, or the list of all, is larger than a job may be.
        """
        expected = dict(expect)
        while True:
            rows = self.rows({*expected, *changes, *also})
            moved = [key for key, version in expected.items() if rows[key].version != version]
            if moved:
                raise Conflict(moved)
            prepare({key: rows[key] for key in also})
            wanted = {
                key: value
                for key, value in changes.items()
                if value is not None or rows[key].version
            }
            if not wanted:
                return dict.fromkeys(changes, 0)
            with self._locks.held(self._layout.lock) as wire:
                version = self._try(wire, wanted, expected)
            if version:
                time.sleep(_WAIT)
                return {key: 0 if value is None else version for key, value in changes.items()}

    def _try(
        self, wire: Wire, changes: Mapping[str, bytes | None], expected: Mapping[str, int]
    ) -> int:
        """Make the change the next one; returns its version, or 0 if another was faster."""
        asked = time.monotonic()
        (reply,) = wire.ask([*wire.enter(self._layout.topology), b"peek-ready"])
        root = self._see(reply, asked)
        if not root.job:
            root = root._replace(base=int(time.time() * 1000))
        pages = self._load(root, root.pages_of([*changes, *expected]))
        if pages is None or any(
            _row(root, pages, key).version != version for key, version in expected.items()
        ):
            return 0
        made = change(root, pages, changes)
        jobs = self._put_pages(wire, made)
        new = next_root(root, made, jobs)
        body = dump_root(new)
        self._check_size(len(body), "the list of all exchanges, bindings and queues")
        asked = time.monotonic()
        root_put = put(body, priority=root_priority(new))
        # Its mark goes before the root does: whoever finds it knows that this did not happen.
        commands = [b"delete %d" % root.mark, root_put, b"peek-ready"]
        *_, mine, first = wire.ask([*wire.enter(self._layout.topology), *commands])
        if first.number != mine.number and (
            first.status != b"FOUND" or mine.number not in load_root(first.number, first.body).past
        ):
            wire.ask([b"delete %d" % job for job in (mine.number, *jobs)])
            return 0
        self._see(first, asked)
        written = zip(jobs[:-1], made.new, strict=True)
        self._pages = {**self._pages, **{job: load_page(page[-1]) for job, page in written}}
        self._clean(wire, new._replace(job=mine.number), jobs)
        return made.version

    def _put_pages(self, wire: Wire, made: Change) -> list[int]:
        commands = wire.enter(self._layout.pages)
        for _, _, body in made.new:
            self._check_size(len(body), "a document")
            commands.append(put(body))
        # The last one is the mark.
        return [reply.number for reply in wire.ask([*commands, put(b"")])]

    def _check_size(self, size: int, what: str) -> None:
        if size > self._max_job_size:
            raise ContentTooLargeError(
                f"{what.capitalize()} takes {size} bytes; beanstalkd takes at most "
                f"{self._max_job_size} in one job (its option -z sets it)"
            )

    def _clean(self, wire: Wire, root: Root, jobs: Sequence[int]) -> None:
        """Bury the new pages, and delete what is not needed any more and what others left."""
        commands = []
        for job in jobs:
            commands += [b"reserve-job %d" % job, b"bury %d 0" % job]
        # All but the last only if those who should have done it died.
        commands += [b"delete %d" % job for job in (*root.waste, *root.past[:3])]
        *_, found = wire.ask([*commands, *wire.enter(self._layout.pages), b"peek-ready"])
        there = {root.mark, *(job for _, job in root.pages)}
        while True:
            # A page that is not buried and older than the root is no other writer's: he would
            # have to make a root that comes before this one.
            if found.status != b"FOUND" or found.number > root.job:
                break
            job = found.number
            kept = [b"reserve-job %d" % job, b"bury %d 0" % job]
            *_, found = wire.ask([*(kept if job in there else [b"delete %d" % job]), b"peek-ready"])


def _row(root: Root, pages: Mapping[int, Page], key: str) -> Row:
    if not root.pages:
        return _ABSENT
    return pages[root.pages[root.page_at(key)][1]].get(key, _ABSENT)
