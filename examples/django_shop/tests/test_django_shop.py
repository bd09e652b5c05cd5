"""The example project runs as its README says, between real processes."""

from __future__ import annotations

import http.cookiejar
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from kombu_core.testing.brokers import free_port
from kombu_core.testing.harness import until

PROJECT = Path(__file__).resolve().parents[1]
#: The commands of the README, by their names.
COMMANDS = {
    line.split()[2]: shlex.split(line)[2:]
    for line in (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("python manage.py ")
}


class Shop:
    """The project in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "SHOP_DATABASE": str(directory / "db.sqlite3"),
            "DJANGO_SUPERUSER_PASSWORD": "lovelace",
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.port = free_port()
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._browser = urllib.request.build_opener(cookies)

    def command(self, name: str, *more: str) -> list[str]:
        """Return a command of the README."""
        return [sys.executable, "manage.py", *COMMANDS[name], *more]

    def run(self, name: str, *more: str) -> str:
        """Run a command of the README to its end."""
        done = subprocess.run(
            self.command(name, *more),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Start a command of the README."""
        return subprocess.Popen(
            self.command(name, *more),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str = "") -> str:
        """Return a page."""
        with self._browser.open(f"http://127.0.0.1:{self.port}/{path}") as response:
            return str(response.read().decode())

    def post(self, path: str = "", **form: str) -> str:
        """Send a page's form."""
        (token,) = set(re.findall(r'csrfmiddlewaretoken" value="(\w+)"', self.get(path)))
        data = urlencode({**form, "csrfmiddlewaretoken": token}).encode()
        with self._browser.open(f"http://127.0.0.1:{self.port}/{path}", data) as response:
            return str(response.read().decode())

    def is_up(self) -> bool:
        """Whether the site answers."""
        try:
            self.get()
        except urllib.error.URLError:
            return False
        return True


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The site, running."""
    directory = tmp_path_factory.mktemp("shop") / "django_shop"
    shutil.copytree(PROJECT, directory, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*"))
    shop = Shop(directory)
    shop.run("migrate")
    shop.run("createsuperuser", "--noinput")
    site = shop.start("runserver", "--noreload", f"127.0.0.1:{shop.port}")
    try:
        until(shop.is_up, "the site answers", timeout=60)
        yield shop
    finally:
        site.kill()
        site.wait()


def test_an_order_gets_an_invoice(shop: Shop) -> None:
    shop.post(thing="lamp")
    assert "1: lamp: no invoice yet" in shop.get()
    assert "1 handled, 0 failed" in shop.run("kombu_consume", "--until-empty")
    assert "1: lamp: invoice of 4" in shop.get()

    with pytest.raises(urllib.error.HTTPError):
        shop.post(thing="broken")
    assert "broken" not in shop.get()
    assert "0 handled, 0 failed" in shop.run("kombu_consume", "--until-empty")

    shop.post(thing="impossible")
    assert "0 handled, 1 failed" in shop.run("kombu_consume", "--until-empty")
    assert re.search(r"\d: impossible: no invoice yet", shop.get())
    assert re.search(r"orders.dead +1 +0 +0 ", shop.run("kombu_queues"))

    shop.post("admin/login/", username="ada", password="lovelace", next="/admin/")
    assert "orders.dead" in shop.get("admin/kombu_django/queue/")


def test_it_has_tests_of_its_own(shop: Shop) -> None:
    shop.run("test", "shop.tests")


def test_workers_that_are_killed_write_each_invoice_once(shop: Shop) -> None:
    for number in range(12):
        shop.post(thing=f"chair {number}")
    for round_ in range(3):
        worker = shop.start("kombu_consume")
        # It has written some, and dies at whatever it does then.
        until(lambda n=round_: invoices(shop) > 2 * n, timeout=60)  # type: ignore[misc]
        worker.kill()
        worker.wait()
    worker = shop.start("kombu_consume")
    until(lambda: invoices(shop) == 12, timeout=60)
    worker.terminate()
    assert worker.wait(30) == 0
    assert invoices(shop) == 12
    assert all(f"chair {number}: invoice of 7<" in shop.get() for number in range(10))


def invoices(shop: Shop) -> int:
    """Return how many there are for chairs."""
    return sum(line.count("invoice of") for line in shop.get().splitlines() if "chair" in line)
