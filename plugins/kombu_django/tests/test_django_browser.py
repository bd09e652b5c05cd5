"""The admin in a real browser: what an administrator sees and clicks.

With KOMBU_SCREENSHOTS=DIRECTORY the pages are kept as pictures.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.test import override_settings
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from kombu_core import Connection, Exchange, Queue
from kombu_core.testing.harness import fetch_many, until
from kombu_django.publishing import publish
from plugins.kombu_django.tests.databases import rows_of
from plugins.kombu_django.tests.test_django_admin import Router

_BROWSERS = ("chromium", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Root's, in containers.
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--window-size=1200,760",
)


def _found(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window."""
    binary, driver = _found(*_BROWSERS), _found("chromedriver")
    if binary is None or driver is None:
        reason = "chromium and chromedriver are not installed"
        if os.environ.get("KOMBU_REQUIRE_BROKERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield found
    found.quit()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(sqlite_alias: str) -> Iterator[str]:
    """The address of the admin, served by a thread."""
    # A thread for each connection: a browser keeps some open in advance.
    with ThreadedWSGIServer(("127.0.0.1", 0), _Quiet) as server:
        server.set_app(StaticFilesHandler(WSGIHandler()))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        with override_settings(DATABASE_ROUTERS=[Router()], DEBUG=True):
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/admin/"
            server.shutdown()
            thread.join()


@pytest.fixture
def page(browser: webdriver.Chrome, site: str) -> Page:
    """The admin, logged in."""
    User.objects.filter(username="ada").delete()
    User.objects.create_superuser("ada", password="lovelace")
    browser.get(site)
    found = Page(browser, site)
    found.fill("username", "ada")
    found.fill("password", "lovelace")
    found.click("input[type=submit]")
    return found


class Page:
    """What somebody does with a page."""

    def __init__(self, browser: webdriver.Chrome, site: str) -> None:
        self.browser = browser
        self.site = site

    @property
    def text(self) -> str:
        """What can be read."""
        return self.browser.find_element(By.TAG_NAME, "body").text

    def fill(self, name: str, text: str) -> None:
        """Write into a field."""
        self.browser.find_element(By.NAME, name).send_keys(text)

    def click(self, css: str) -> None:
        """Click, and wait until another page is there."""
        before = self.browser.find_elements(By.TAG_NAME, "html")
        self.browser.find_element(By.CSS_SELECTOR, css).click()
        # Between the two pages there is none for a moment.
        until(lambda: self.browser.find_elements(By.TAG_NAME, "html") not in ([], before), css)
        until(lambda: self.browser.execute_script("return document.readyState") == "complete")

    def follow(self, text: str) -> None:
        """Follow the link of this text."""
        target = self.browser.find_element(By.LINK_TEXT, text).get_attribute("href")
        assert target is not None
        self.browser.get(target)

    def tick(self, *texts: str) -> None:
        """Tick the rows that have these texts."""
        for row in self.browser.find_elements(By.CSS_SELECTOR, "#result_list tbody tr"):
            if any(text in row.text for text in texts):
                row.find_element(By.CSS_SELECTOR, "input.action-select").click()

    def act(self, action: str) -> None:
        """Choose an action and go."""
        Select(self.browser.find_element(By.NAME, "action")).select_by_value(action)
        self.click("button[name=index]")

    def keep(self, name: str) -> None:
        """Keep the page as a picture, if that is asked for."""
        directory = os.environ.get("KOMBU_SCREENSHOTS")
        if directory:
            self.browser.save_screenshot(str(Path(directory) / f"{name}.png"))


@pytest.fixture
def shop(site: str) -> Iterator[Connection]:
    """Queues of a shop, with work in them."""
    with Connection("django://sqlite") as connection:
        dead = Queue("orders.dead")
        orders = Queue(
            "orders",
            Exchange("shop", "topic"),
            "order.*",
            queue_arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead.name,
            },
        )
        mails = Queue("mails", max_priority=5)
        for queue in (dead, orders, mails):
            queue(connection).declare()
        for number in range(12):
            body = {"order": 1000 + number, "customer": "ada@example.org", "items": [3, 5]}
            publish(body, "order.placed", exchange="shop", headers={"tenant": "london"})
            publish({"to": "ada@example.org", "subject": f"Order {number}"}, "mails", priority=2)
        publish({"to": "ada@example.org", "subject": "Come back"}, "mails", delay=3600)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=3)
        channel.basic_consume("mails", lambda message: None)
        first, second, *_ = fetch_many(channel, "orders", 4)
        first.reject()
        second.reject()
        until(lambda: rows_of("sqlite", "orders.dead") == 2)
        yield connection
        for queue in (dead, orders, mails):
            queue(connection).delete()


def test_an_administrator_looks_after_a_shop(page: Page, shop: Connection) -> None:
    page.browser.get(page.site)
    assert "message queues" in page.text.lower()
    page.follow("Queues")
    assert "orders.dead" in page.text
    page.keep("admin-queues")

    page.follow("orders")
    assert "x-dead-letter-routing-key='orders.dead'" in page.text
    page.keep("admin-queue")
    page.follow("Browse")
    assert "10 messages" in page.text
    page.keep("admin-messages")

    page.browser.get(f"{page.site}kombu_django/message/?queue=orders.dead")
    page.browser.find_element(By.CSS_SELECTOR, "#result_list tbody th a").click()
    until(lambda: "ada@example.org" in page.text)
    assert "tenant" in page.text
    page.keep("admin-message")

    page.browser.get(f"{page.site}kombu_django/message/?queue=orders.dead")
    page.tick("orders.dead")
    page.act("move_messages")
    assert "Move 2 messages to the end of another queue?" in page.text
    chosen = Select(page.browser.find_element(By.NAME, "target")).first_selected_option
    assert chosen.text == "orders"  # Where they died.
    page.keep("admin-move")
    page.click("input[type=submit]")
    assert "2 messages were moved to orders." in page.text, page.text
    assert rows_of("sqlite", "orders.dead") == 0

    page.browser.get(f"{page.site}kombu_django/queue/")
    page.tick("orders\n", "orders ")
    page.act("purge_queues")
    assert "They are lost then." in page.text
    page.keep("admin-purge")
    assert rows_of("sqlite", "orders") == 12
    page.click("input[type=submit]")
    assert "10 messages of orders were deleted." in page.text
    assert rows_of("sqlite", "orders") == 2

    page.browser.get(f"{page.site}kombu_django/message/?queue=mails&state__exact=1")
    page.tick("mails")
    page.act("delete_selected")
    assert "Are you sure" in page.text
    page.click("input[type=submit]")
    assert rows_of("sqlite", "mails") == 12

    page.browser.get(f"{page.site}kombu_django/queue/")
    page.tick("mails")
    page.act("delete_queues")
    assert "mails has 12 ready, 0 delayed and 0 unacknowledged messages." in page.text
    assert "mails has consumers: 1." in page.text
    page.keep("admin-delete")
    page.browser.find_element(By.NAME, "even_full").click()
    page.click("input[type=submit]")
    assert "was deleted" not in page.text  # As it has a consumer.
    page.tick("mails")
    page.act("delete_queues")
    page.browser.find_element(By.NAME, "even_full").click()
    page.browser.find_element(By.NAME, "even_used").click()
    page.click("input[type=submit]")
    assert "The queue mails was deleted." in page.text, page.text
    assert rows_of("sqlite", "mails") == 0


def test_a_body_runs_no_script(page: Page, shop: Connection) -> None:
    publish("<script>document.title = 'taken'</script><img src=x onerror=alert(1)>", "orders.dead")
    page.browser.get(f"{page.site}kombu_django/message/?queue=orders.dead&o=-1")
    page.browser.find_element(By.CSS_SELECTOR, "#result_list tbody th a").click()
    until(lambda: "onerror=alert(1)" in page.text)
    assert "taken" not in page.browser.title
