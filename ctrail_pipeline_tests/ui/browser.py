"""Headless Chromium that looks, clicks and waits as a user does: by visible text, never by time.

What there is to see belongs to `test_ui`.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, HEIGHT = 1400, 900
SECONDS = 60
SECONDS_TO_STAND_STILL = 5
# React replaces elements during a look, and elements lie above others for a moment.
_PASSING = (StaleElementReferenceException, ElementNotInteractableException)
_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    f"--window-size={WIDTH},{HEIGHT}",
)


class Page:
    """The page that is open in the browser."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        self._url = url

    def open(self, path: str) -> None:
        """Go to a path of the UI."""
        self._driver.get(self._url + path)

    @property
    def text(self) -> str:
        """All visible text of the page."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def see(self, *texts: str, seconds: float = SECONDS) -> None:
        """Wait until all these texts are visible."""
        self._until(lambda: all(text in self.text for text in texts), f"text {texts}", seconds)

    def click(self, xpath: str, shown_next: str | None = None) -> None:
        """Click on the element as soon as possible, and wait until `shown_next` is visible."""

        def click() -> bool:
            element = self._visible(xpath)
            if element is None or not element.is_enabled():
                return False
            element.click()
            return True

        self._until(click, f"{xpath} to be clicked")
        if shown_next is not None:
            self.find(shown_next)

    def find(self, xpath: str) -> WebElement:
        """Wait until an element is visible, and return it."""
        found: list[WebElement] = []

        def find() -> bool:
            element = self._visible(xpath)
            found.extend([] if element is None else [element])
            return bool(found)

        self._until(find, xpath)
        return found[0]

    def scroll_to(self, xpath: str) -> None:
        """Scroll an element to the upper edge of the window."""
        self._driver.execute_script("arguments[0].scrollIntoView(true)", self.find(xpath))

    def screenshot(self, file: Path) -> None:
        """Write the page as a PNG file of 1400 × 900, once it stands still (a clock never does)."""
        # Remove the highlight that a click left.
        self._driver.execute_script("document.activeElement.blur()")
        picture, before = b"", None
        give_up = time.monotonic() + SECONDS_TO_STAND_STILL
        while picture != before and time.monotonic() < give_up:
            time.sleep(0.2)
            picture, before = self._driver.get_screenshot_as_png(), picture
        file.write_bytes(picture)

    def _visible(self, xpath: str) -> WebElement | None:
        elements = self._driver.find_elements(By.XPATH, xpath)
        return next((element for element in elements if element.is_displayed()), None)

    def _until(self, condition: Callable[[], bool], awaited: str, seconds: float = SECONDS) -> None:
        def holds(_: webdriver.Chrome) -> bool:
            try:
                return condition()
            except _PASSING:
                return False

        try:
            WebDriverWait(self._driver, seconds, poll_frequency=0.2).until(holds)
        except TimeoutException:
            at = self._driver.current_url
            raise AssertionError(f"no {awaited} in {seconds} s at {at}:\n{self.text}") from None


@contextmanager
def chromium(url: str) -> Iterator[Page]:
    """Debian's Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory(prefix="ctrail-chromium-") as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        if os.geteuid() == 0:  # Chromium's sandbox refuses root
            options.add_argument("--no-sandbox")
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            # The window's size includes parts that headless Chromium does not draw.
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield Page(driver, url)
        finally:
            driver.quit()
