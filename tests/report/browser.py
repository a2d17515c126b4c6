"""A page as a browser draws it: opened in headless Chromium, measured by a script in it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_MEASURE = """
const width = document.documentElement.clientWidth, faults = [];
const shown = element => element.checkVisibility({visibilityProperty: true});
const inner = element => `${element.tagName} ${element.textContent.trim().slice(0, 60)}`;
const scrolls = element => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
if (document.scrollingElement.scrollWidth > width)
  faults.push(`the page is ${document.scrollingElement.scrollWidth} wide`);
for (const element of document.body.querySelectorAll("*")) {
  if (!shown(element)) continue;
  const box = element.getBoundingClientRect();
  let parent = element.parentElement;
  while (parent && !scrolls(parent)) parent = parent.parentElement;
  if (!parent && (box.right > width + 1 || box.left < -1))
    faults.push(`${box.left} to ${box.right}: ${inner(element)}`);
  // What is wider than its box prints over its neighbours, unless the box scrolls.
  const inside = element.closest("math, svg, canvas, select");
  if (!inside && !scrolls(element) && element.clientWidth
      && element.scrollWidth > element.clientWidth + 1)
    faults.push(`${element.scrollWidth} in ${element.clientWidth}: ${inner(element)}`);
}
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const parent = node.parentElement;
  if (parent.closest("math, script, style, pre") || !shown(parent)) continue;
  for (const word of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
    if (tops.size > 1) faults.push(`a word is broken: ${word[0]}`);
  }
}
for (const image of document.images)
  if (!image.complete || !image.naturalWidth) faults.push(`no picture: ${image.alt}`);
return faults;
"""


class Browser:
    """Headless Chromium with one page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, path: Path, width: int) -> None:
        """Open a file in a window of a width in CSS pixels; its fonts are then loaded."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self._driver.get(path.as_uri())
        self._driver.execute_async_script("document.fonts.ready.then(() => arguments[0]())")

    def run(self, script: str) -> Any:
        """Return what a script in the page returns."""
        return self._driver.execute_script(script)

    def faults(self) -> list[str]:
        """What lies beyond the edge or its box, and words that are broken."""
        return list(self.run(_MEASURE))

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        options = {"captureBeyondViewport": True, "format": "png"}
        shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", options)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; where it is not installed the test is skipped, and says so."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no chromium and chromium-driver are installed, in which pages are looked at")
    options = Options()
    options.binary_location = str(programs[0])
    for option in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, Service(str(programs[1])))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
