"""Where Chromium is, and how it runs without a graphics card and over a slow line."""

from __future__ import annotations

import os
import shutil

CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium"))
"""The path of Chromium, or of the browser that ``CHROMIUM`` names; None if it is not installed."""

FLAGS = (
    "--no-sandbox",
    "--no-proxy-server",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
"""Chromium without a graphics card; viewers draw with WebGL."""

TEN_MEGABITS = {"offline": False, "latency": 40, "downloadThroughput": 1_250_000, "uploadThroughput": 1_250_000}
"""A slow line: milliseconds, and bytes per second. The parameters of ``Network.emulateNetworkConditions``."""
