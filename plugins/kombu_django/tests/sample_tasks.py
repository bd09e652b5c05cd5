"""Tasks for the tests; what they did is in `done`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from kombu_django.task_framework import task

done: list[Any] = []


@task(queue_name="default")
def add(a: int, b: int = 0) -> int:
    """Add."""
    done.append(a + b)
    return a + b


@task()
def fail(reason: str) -> None:
    """Raise."""
    raise ValueError(reason)


@task(takes_context=True)
def introduce(context: Any) -> None:
    """Tell who runs it."""
    done.append((context.task_result.id, context.attempt))


@task()
async def wait_a_moment() -> None:
    """Be a coroutine."""
    done.append("async")


@task(backend="memory")
def add_in_memory(a: int) -> None:
    """Go over another broker."""
    done.append(a)


@task(queue_name="other")
def linger(place: str) -> None:
    """Write the number of the process; then, the first time, wait to be killed."""
    first = not Path(place).exists()
    with Path(place).open("a") as file:
        file.write(f"{os.getpid()}\n")
    if first:
        time.sleep(60)


@task()
def produce(value: Any, as_set: bool = False) -> Any:
    """Return what is wanted."""
    return set(value) if as_set else value
