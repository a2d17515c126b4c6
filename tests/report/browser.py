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
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

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


_OVERLAPS = """
const faults = [], boxes = [];
const shown = element => element.checkVisibility({visibilityProperty: true});
const clips = element => ["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX);
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const parent = node.parentElement;
  if (!node.data.trim() || !shown(parent)) continue;
  if (parent.closest("title, script, style, option, noscript")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  let box = null;
  for (let around = parent; around; around = around.parentElement)
    if (clips(around)) { box = around; break; }
  const svg = parent.closest("svg");
  for (const rect of range.getClientRects()) {
    if (svg) {
      const whole = svg.getBoundingClientRect();
      if (rect.left < whole.left - 1 || rect.right > whole.right + 1
          || rect.top < whole.top - 3 || rect.bottom > whole.bottom + 3)
        faults.push(`cut: ${node.data.trim()}`);
    }
    let {left, right, top, bottom} = rect;
    if (box) {
      const clip = box.getBoundingClientRect();
      left = Math.max(left, clip.left); right = Math.min(right, clip.right);
      top = Math.max(top, clip.top); bottom = Math.min(bottom, clip.bottom);
    }
    const sticky = Boolean(parent.closest("tr > th:first-child"));
    if (right > left && bottom > top)
      boxes.push({left, right, top, bottom, sticky, node, text: node.data.trim()});
  }
}
boxes.sort((a, b) => a.top - b.top);
boxes.forEach((a, i) => {
  for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom - 3; j++) {
    const b = boxes[j];
    if (a.node !== b.node && a.sticky === b.sticky
        && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2)
      faults.push(`${a.text.slice(0, 40)} over ${b.text.slice(0, 40)}`);
  }
});
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

    def overlaps(self) -> list[str]:
        """Texts that lie over another one, and those of a drawing that are cut by its edge."""
        return list(self.run(_OVERLAPS))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since they were asked for last."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def click(self, selector: str, number: int = 0) -> None:
        """Click on an element as a person would, after scrolling to it."""
        self._element(selector, number).click()

    def hover(self, selector: str, number: int = 0) -> None:
        """Move the pointer to an element."""
        ActionChains(self._driver).move_to_element(self._element(selector, number)).perform()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Press at one share of an element's width, move to another and let go."""
        element = self._element(selector, 0)
        width = element.size["width"]
        chain = ActionChains(self._driver)
        chain.move_to_element_with_offset(element, round((start - 0.5) * width), 0)
        chain.click_and_hold().move_by_offset(round((end - start) * width), 0).release().perform()

    def press(self, *keys: str) -> None:
        """Press keys one after the other, in whatever has the focus."""
        ActionChains(self._driver).send_keys(*keys).perform()

    def dark(self, wanted: bool) -> None:
        """Let the page think that the reader prefers dark colors, or that none is preferred.

        It is waited until the page has been told and has drawn itself since: a listener is called
        in the frame after the wish has changed, which on a busy machine comes late.
        """
        value = "dark" if wanted else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.run(f"""
            const wish = matchMedia("(prefers-color-scheme: dark)");
            return new Promise(done => {{
              let after = 0;
              const frame = () => {{
                after += wish.matches === {str(wanted).lower()};
                after > 2 ? done() : requestAnimationFrame(frame);
              }};
              frame();
            }})""")

    def _element(self, selector: str, number: int) -> WebElement:
        element = self._driver.find_elements(By.CSS_SELECTOR, selector)[number]
        self._driver.execute_script(
            "arguments[0].scrollIntoView(arguments[1])",
            element,
            {"block": "center", "inline": "center"},
        )
        return element

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
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(programs[1])))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
