"""A real browser that shows a page without a screen, and says what went wrong."""

import contextlib
import json
import os
import shutil
import tempfile

import pytest

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
PHONE = 375
DESKTOP = 1280


def find_browser():
    """Return browser and driver; skip the test without them, but never in CI."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        reason = "needs the commands chromium and chromedriver"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, which CI must have")
        pytest.skip(reason)
    return browser, driver


@contextlib.contextmanager
def open_browser():
    """Yield a driver of a fresh headless Chromium."""
    browser, driver = find_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in [*_FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability(
            "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
        )
        window = webdriver.Chrome(options=options, service=Service(driver))
        try:
            # Off the browser's own first page, whose requests are not ours.
            window.get("about:blank")
            window.get_log("performance")
            yield window
        finally:
            window.quit()


def show(window, path, *, width=DESKTOP, scheme="light", media="screen"):
    """Open a file as a device of that width and colour scheme would, details open."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    window.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": media, "features": features}
    )
    window.get(path.resolve().as_uri())
    window.execute_script(
        "document.querySelectorAll('details').forEach(one => one.open = true)"
    )


def read_console(window):
    """Return what the browser complained about."""
    return [entry["message"] for entry in window.get_log("browser")]


def list_requests(window):
    """Return the addresses of everything that was asked for."""
    addresses = []
    for entry in window.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            addresses.append(message["params"]["request"]["url"])
    return addresses


def list_broken_pictures(window):
    """Return the alternative texts of pictures that did not load."""
    return window.execute_script(
        "return [...document.images]"
        ".filter(one => !one.complete || one.naturalWidth === 0)"
        ".map(one => one.alt || one.src)"
    )


def list_overflowing(window):
    """Return the elements that reach beyond the page, unless they scroll."""
    return window.execute_script(
        """
        const width = document.documentElement.clientWidth;
        const found = [...document.body.querySelectorAll('*')].filter(one =>
            one.getBoundingClientRect().right > width + 0.5 &&
            !one.parentElement.closest('.scroll'));
        if (document.documentElement.scrollWidth > width) found.push(document.body);
        return found.map(one => one.tagName + '.' + one.className);
        """
    )


def list_poor_contrasts(window, limit=4.5):
    """Return texts whose colour stands out too little from what is behind them."""
    return window.execute_script(
        """
        const channels = text => text.match(/[\\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = one => {
            for (; one; one = one.parentElement) {
                const color = channels(getComputedStyle(one).backgroundColor);
                if (color.length < 4 || color[3] > 0) return color;
            }
            return [255, 255, 255];
        };
        const poor = [];
        for (const one of document.body.querySelectorAll('*')) {
            const text = [...one.childNodes].filter(n => n.nodeType === 3)
                .map(n => n.data.trim()).join('');
            if (!text) continue;
            const pair = [luminance(channels(getComputedStyle(one).color)),
                          luminance(behind(one))].sort((a, b) => b - a);
            const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
            if (ratio < arguments[0]) poor.push([text.slice(0, 40), ratio]);
        }
        return poor;
        """,
        limit,
    )
