"""Starts Chromium for tests of pages that call the API."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

from local.viewer.chromium import CHROMIUM, FLAGS

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: install it, or set CHROMIUM to the path of a Chromium browser"
)

MAX_PAGE_SECONDS = 120
"""The machine may run other tests at the same time."""


@contextmanager
def chromium():
    """Run Chromium. Each of its contexts is a browser in which nobody has been."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def profile(folder):
    """Run Chromium with the profile in a folder, as a person does who opens the browser again."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(folder, executable_path=CHROMIUM, args=FLAGS)
        try:
            yield context
        finally:
            context.close()
