"""The process that draws."""

from __future__ import annotations

import pytest

from framegate.rendering.drawing_process import DrawingProcess


@pytest.fixture(scope="module")
def process():
    """The process that draws, shared by the tests of a module."""
    running = DrawingProcess()
    yield running
    running.stop()
