"""Media types pass through."""

import pytest

from framegate.healthimaging.media_types import pass_through


@pytest.mark.parametrize("content_type", ["image/jph", "video/H256", "image/jxl", "x", "a/b;c=d", "a" * 255])
def test_media_type_passes_through_unchanged(content_type):
    assert pass_through(content_type) == content_type


@pytest.mark.parametrize("content_type", [None, "", "a" * 256])
def test_missing_or_endless_media_type_is_octet_stream(content_type):
    assert pass_through(content_type) == "application/octet-stream"
