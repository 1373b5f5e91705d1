"""Pixels of lossless frames against the checksums of the metadata."""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import suppress

import pytest

from framegate.healthimaging.image_set_metadata import frames_of
from framegate.jpeg2000.pixels import UndecodableError, is_verifiable, pixel_checksum
from local.samples import write_samples

HTJ2K = "1.2.840.10008.1.2.4.202"


@pytest.fixture(scope="module")
def lossless_frames(emulator, tmp_path_factory):
    """Every lossless frame of the sample files: its entry in the metadata, and its bytes."""
    folder = tmp_path_factory.mktemp("dicom")
    write_samples(folder)
    datastore_id = emulator.create_datastore("pixels")
    return [
        (entry, b"".join(map(bytes, image_set.frames[entry.image_frame_id].content.pieces())))
        for image_set in emulator.import_files(datastore_id, sorted(folder.iterdir()))
        for entry in frames_of([gzip.decompress(image_set.metadata())])
        if is_verifiable(entry.transfer_syntax_uid) and entry.checksum is not None
    ]


def test_lossless_frames_decode_to_the_pixels_of_the_metadata(lossless_frames):
    assert len(lossless_frames) > 10
    for entry, content in lossless_frames:
        assert pixel_checksum(content, entry.transfer_syntax_uid) == entry.checksum


def test_changed_frame_decodes_to_other_pixels_or_not_at_all(lossless_frames):
    entry, content = next(pair for pair in lossless_frames if len(pair[1]) > 10_000)
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 0x55
    with suppress(UndecodableError):
        assert pixel_checksum(bytes(changed), HTJ2K) != entry.checksum


@pytest.mark.parametrize("content", [b"", b"\xff\x4f\xff\x51", os.urandom(1000)])
def test_bytes_that_are_no_image_do_not_decode(content):
    with pytest.raises(UndecodableError):
        pixel_checksum(content, HTJ2K)


def test_uncompressed_pixels_are_their_own():
    assert pixel_checksum(b"pixels", "1.2.840.10008.1.2.1") == zlib.crc32(b"pixels")


@pytest.mark.parametrize(
    ("syntax", "verifiable"),
    [(HTJ2K, True), ("1.2.840.10008.1.2.4.203", False), ("1.2.840.10008.1.2.4.50", False), ("1.2.3", False)],
)
def test_only_lossless_syntaxes_are_verifiable(syntax, verifiable):
    assert is_verifiable(syntax) is verifiable
