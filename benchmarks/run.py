"""Run all benchmarks, or those that are named, and print one table.

    python benchmarks/run.py [--rounds N] [memory redis import …]

Figures are of this machine and this run; compare only within a row.
"""

from __future__ import annotations

import argparse
import importlib
import platform
from pathlib import Path

from harness import Row, table


def main() -> int:
    """Run and print."""
    known = sorted(path.stem.removeprefix("bench_") for path in _here().glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)} (known: {', '.join(known)})")
    print(f"Python {platform.python_version()}, medians of {options.rounds} rounds\n")
    found: list[Row] = []
    for name in options.names or known:
        found += importlib.import_module(f"bench_{name}").rows(options.rounds)
    print(table(found))
    return 0


def _here() -> Path:
    return Path(__file__).parent


if __name__ == "__main__":
    raise SystemExit(main())
