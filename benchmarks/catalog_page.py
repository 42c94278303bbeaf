"""How quick the catalog's page is in a browser: first paint, a keystroke of search, a click on a facet.

`measure(path)` opens a page that was built (`feature-store catalog build`) from disk in Chromium. The times of a keystroke
and of a click are the browser's own, from the event to the next paint (Event Timing; in steps of 8 ms).
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
WATCH = """
window.watched = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.watched.push([one.name, one.duration]);
}).observe({ type: 'event', durationThreshold: 16, buffered: true });
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (one.element && one.element.closest('#main tbody')) window.listed ||= one.startTime;
}).observe({ type: 'largest-contentful-paint', buffered: true });
"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
WORDS = ("amount", "avg count", "tag:pii dur", "zzz")


def measure(path: Path, rounds: int = 3) -> dict[str, Any]:
    """Milliseconds: medians of `rounds` loads, of which both paints are the browser's own (First Contentful Paint: the frame
    of the page; Largest Contentful Paint: the list of views); then of keys and clicks."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options: dict[str, Any] = {"executable_path": CHROMIUM} if Path(CHROMIUM).exists() else {}
        browser = playwright.chromium.launch(headless=True, args=["--no-sandbox"], **options)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.add_init_script(WATCH)
        url = path.resolve().as_uri()
        first, listed, whole = [], [], []
        for _ in range(rounds):
            page.goto("about:blank")
            page.goto(url, wait_until="commit")
            page.wait_for_load_state("load")
            first.append(page.evaluate(FIRST_PAINT))
            listed.append(page.evaluate("window.listed"))
            whole.append(page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"))
        page.wait_for_timeout(1500)  # the index of features is read when the browser has time
        keys = _keys(page)
        page.goto(url + "#/?tab=features")
        page.wait_for_selector(".features tbody tr")
        clicks = _clicks(page)
        browser.close()
    return {
        "file MB": round(path.stat().st_size / 1e6, 1),
        "first paint ms": round(statistics.median(first)),
        "list painted ms": round(statistics.median(listed)),
        "loaded ms": round(statistics.median(whole)),
        "keystroke ms, median": statistics.median(keys),
        "keystroke ms, worst": max(keys),
        "facet click ms, median": statistics.median(clicks),
        "facet click ms, worst": max(clicks),
    }


def _keys(page: Any) -> list[float]:
    times = []
    for words in WORDS:
        page.keyboard.press("Control+k")
        for letter in words:
            page.evaluate("window.watched.length = 0")
            page.keyboard.type(letter)
            times.append(_watched(page, ("keydown", "keypress", "input", "beforeinput", "keyup")))
        page.keyboard.press("Escape")
    return times


def _clicks(page: Any) -> list[float]:
    times = []
    for key in ("entity", "owner", "fresh", "type"):
        box = page.locator(f"input[id^='facet-{key}-']")
        for number in range(min(box.count(), 2)):
            page.evaluate("window.watched.length = 0")
            box.nth(number).click()
            times.append(_watched(page, ("pointerdown", "pointerup", "click", "mousedown", "mouseup")))
    return times


def _watched(page: Any, names: tuple[str, ...]) -> float:
    """The longest of the events since the list was emptied; those that took less than 16 ms are not told of."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))")
    return max((time for name, time in page.evaluate("window.watched") if name in names), default=16.0)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1])), indent=2))
