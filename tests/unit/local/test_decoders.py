"""Decoding in a process of its own: what a codestream can do to its decoder, and what comes after."""

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


def test_all_frames_are_decoded_in_one_process():
    for _ in range(3):
        assert_decodes()
    assert len(decoder_processes()) == 1


def test_decoder_that_ended_is_started_again():
    assert_decodes()
    (process,) = decoder_processes()
    process.kill()
    process.wait(5)
    assert_decodes()


def test_decoder_that_crashes_is_an_error_of_its_frame_only():
    # OpenJPH works on this one for minutes, so there is time for the crash.
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
def test_bytes_that_are_no_codestream_are_an_error(codestream):
    with pytest.raises(DecodeError):
        decode_frame(JPEG_LS, codestream)
    assert_decodes()
