"""A codestream that crashes the decoder process fails alone, and the process restarts."""

from __future__ import annotations

import threading
import time

import imagecodecs
import numpy as np
import psutil
import pytest

from local.health_imaging.decoders import DecodeError, decode_frame
from tests.unit.local.dicom_builder import PIXELS

JPEG_LS, HTJ2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"


def decoder_processes():
    return [each for each in psutil.Process().children() if any("decoders.py" in word for word in each.cmdline())]


def assert_decodes():
    np.testing.assert_array_equal(decode_frame(JPEG_LS, imagecodecs.jpegls_encode(PIXELS)), PIXELS)


def test_one_process_decodes_all_frames():
    for _ in range(3):
        assert_decodes()
    assert len(decoder_processes()) == 1


def test_decoder_restarts_after_it_ended():
    assert_decodes()
    (process,) = decoder_processes()
    process.kill()
    process.wait(5)
    assert_decodes()


def test_decoder_crash_fails_only_its_frame():
    # OpenJPH decodes this codestream for minutes, so the process is busy when we kill it.
    codestream = bytearray(imagecodecs.htj2k_encode(PIXELS, reversible=True))
    codestream[18] = 208
    assert_decodes()
    (process,) = decoder_processes()
    crash = threading.Timer(0.5, process.kill)
    crash.start()
    started = time.monotonic()
    with pytest.raises(DecodeError, match="crashed"):
        decode_frame(HTJ2K, bytes(codestream))
    crash.join()
    assert time.monotonic() - started < 5
    assert_decodes()


@pytest.mark.parametrize("codestream", [b"", b"text", b"\xff\xd8\xff\xd9"])
def test_invalid_codestream_raises_decode_error(codestream):
    with pytest.raises(DecodeError):
        decode_frame(JPEG_LS, codestream)
    assert_decodes()
