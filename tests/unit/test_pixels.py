"""Verification of stored frames by the checksums of the metadata: right, wrong and unverifiable frames."""

from __future__ import annotations

import gzip
import resource
import struct
import time
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.export.decoder import DecoderProcess
from framegate.export.verifying import MATCH, NotVerified, OutOfTimeError, PixelVerifier, Verdict
from framegate.healthimaging.image_set_metadata import FrameEntry, frames_of
from framegate.jpeg2000.pixels import MAX_HEADER_BYTES, DamagedHeaderError, Decoder, read_header
from framegate.time_budget import TimeBudget
from local.samples import write_samples
from tests.unit.codestreams import htj2k, jpeg_2000, noise, slow_frame

PREFIX = "1.2.840.10008.1.2.4."
UNCOMPRESSED, JPEG_2000, HTJ2K, HTJ2K_RPCL = "1.2.840.10008.1.2.1", f"{PREFIX}90", f"{PREFIX}201", f"{PREFIX}202"
MAYBE_JPEG_2000, MAYBE_HTJ2K = f"{PREFIX}91", f"{PREFIX}203"

OTHER_PIXELS = Verdict("The stored frame decodes to other pixels.")
DOES_NOT_DECODE = Verdict("The stored frame does not decode.")
DAMAGED_HEADERS = Verdict("The headers of the stored frame are damaged.")
OTHER_SIZE = Verdict("The stored frame declares another size than the metadata.")


def unknown(reason):
    return Verdict(not_verified=reason)


@pytest.fixture(scope="module")
def verifier():
    return PixelVerifier()


@pytest.fixture
def verify(verifier):
    """A function that verifies bytes against an entry of the metadata."""

    def verify(entry, content, content_type="image/jph", seconds=60, by=verifier):
        pieces = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
        return by.verify(entry, content_type, len(content), lambda: iter(pieces), TimeBudget(seconds))

    return verify


def entry_for(pixels, syntax=HTJ2K_RPCL, stored=None):
    """A metadata entry for an image; `stored` are its samples as the data set has them."""
    rows, columns = pixels.shape[:2]
    stored = pixels if stored is None else stored
    checksum = zlib.crc32(np.ascontiguousarray(stored).tobytes())
    return FrameEntry("f" * 32, "1.2.3", 1, syntax, None, checksum, rows, columns)


def empty_codestream(columns, rows, bits=16, components=1):
    """A codestream without code-blocks: about a hundred bytes for an image of any size."""
    sizes = (columns, rows, 0, 0, columns, rows, 0, 0)
    siz = struct.pack(">HH8IH", 38 + 3 * components, 0, *sizes, components) + bytes([bits - 1, 1, 1]) * components
    cod = struct.pack(">HBBHBBBBBB", 12, 0, 2, 1, 0, 0, 4, 4, 0, 1)
    qcd = struct.pack(">HBB", 4, 0x40, (bits + 1) << 3)
    packets = b"\x00" * (-(-columns // 32768) * -(-rows // 32768) * components)
    sot = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14 + len(packets), 0, 1)
    return b"\xff\x4f\xff\x51" + siz + b"\xff\x52" + cod + b"\xff\x5c" + qcd + sot + b"\xff\x93" + packets + b"\xff\xd9"


# Right frames


def test_every_lossless_sample_file_is_verified(emulator, tmp_path, verify):
    write_samples(tmp_path)
    datastore_id = emulator.create_datastore("pixels")
    verified = 0
    for image_set in emulator.import_files(datastore_id, sorted(tmp_path.iterdir())):
        for entry in frames_of([gzip.decompress(image_set.metadata())]):
            frame = image_set.frames[entry.image_frame_id]
            if entry.checksum is not None and entry.transfer_syntax_uid in (HTJ2K_RPCL, JPEG_2000, UNCOMPRESSED):
                assert verify(entry, b"".join(map(bytes, frame.content.pieces())), frame.content_type) == MATCH
                verified += 1
    assert verified > 10


@pytest.mark.parametrize("shape", [(70, 90), (70, 90, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_samples_of_every_size_and_sign_are_verified(verify, dtype, shape):
    pixels = noise(dtype, shape)
    assert verify(entry_for(pixels), htj2k(pixels)) == MATCH
    assert verify(replace(entry_for(pixels), checksum=1), htj2k(pixels)) == OTHER_PIXELS


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_jpeg_2000_lossless_is_verified(verify, bits):
    pixels = noise("u1" if bits <= 8 else "u2", bits=bits)
    content = jpeg_2000(pixels, bitspersample=bits)
    assert verify(entry_for(pixels, JPEG_2000), content) == MATCH
    assert verify(replace(entry_for(pixels, JPEG_2000), checksum=1), content) == OTHER_PIXELS


@pytest.mark.parametrize("encode", [htj2k, jpeg_2000])
@pytest.mark.parametrize("content_type", ["image/jph", "application/octet-stream"])
def test_lossless_format_is_detected_without_a_transfer_syntax(verify, encode, content_type):
    pixels = noise("u2")
    assert verify(entry_for(pixels, syntax=None), encode(pixels), content_type) == MATCH


def test_codestream_in_a_file_is_verified(verify):
    pixels = noise("u2")
    assert verify(entry_for(pixels, JPEG_2000), jpeg_2000(pixels, codecformat="jp2")) == MATCH


@pytest.mark.parametrize("encode", [htj2k, jpeg_2000])
def test_checksum_of_colours_by_plane_is_verified(verify, encode):
    pixels = noise("u1", (40, 50, 3))
    assert verify(entry_for(pixels, None, stored=pixels.transpose(2, 0, 1)), encode(pixels)) == MATCH


def test_checksum_of_8_bits_stored_in_16_is_verified(verify):
    pixels = noise("u1")
    assert verify(entry_for(pixels, stored=pixels.astype("u2")), htj2k(pixels)) == MATCH


def test_uncompressed_pixels_are_compared_as_stored(verify):
    pixels = noise("f4")
    entry = entry_for(pixels, UNCOMPRESSED)
    assert verify(entry, pixels.tobytes()) == MATCH
    assert verify(entry, pixels.tobytes()[:-1] + b"\x01") == Verdict("The stored frame has other pixels.")


@pytest.mark.parametrize("columns", [64, 61])
def test_binary_segmentation_is_verified_by_a_checksum_of_bits_or_pixels(verify, columns):
    pixels = noise("u1", (33, columns), bits=1)
    packed = np.packbits(pixels, axis=None, bitorder="little").tobytes()
    assert verify(entry_for(pixels, UNCOMPRESSED), packed) == MATCH
    assert verify(replace(entry_for(pixels, UNCOMPRESSED), checksum=zlib.crc32(packed)), packed) == MATCH
    assert verify(replace(entry_for(pixels, UNCOMPRESSED), checksum=1), packed) == unknown(NotVerified.UNSUPPORTED)


# Unverifiable frames


def test_frame_without_a_checksum_is_not_verified(verify):
    pixels = noise("u2")
    assert verify(replace(entry_for(pixels), checksum=None), htj2k(pixels)) == unknown(NotVerified.NO_CHECKSUM)


@pytest.mark.parametrize("syntax", [f"{PREFIX}50", f"{PREFIX}112", "1.2.3"])
def test_other_syntaxes_are_not_verified(verify, syntax):
    assert verify(entry_for(noise("u2"), syntax), b"any bytes") == unknown(NotVerified.LOSSY)


def test_frame_without_syntax_or_codestream_is_not_verified(verify):
    assert verify(entry_for(noise("u2"), None), b"any bytes", "image/jpeg") == unknown(NotVerified.LOSSY)


@pytest.mark.parametrize(("syntax", "encode"), [(MAYBE_JPEG_2000, jpeg_2000), (MAYBE_HTJ2K, htj2k)])
def test_possibly_lossy_frame_is_verified_but_never_mismatched(verify, syntax, encode):
    pixels = noise("u2")
    assert verify(entry_for(pixels, syntax), encode(pixels)) == MATCH
    for content in (encode(pixels), encode(pixels, reversible=False), encode(pixels)[:-500], b"damaged"):
        assert verify(replace(entry_for(pixels, syntax), checksum=1), content) == unknown(NotVerified.LOSSY)


def test_jpeg_2000_samples_that_openjpeg_changes_are_not_verified(verify):
    pixels = noise("u4")
    assert verify(entry_for(pixels, JPEG_2000), jpeg_2000(pixels)) == unknown(NotVerified.UNSUPPORTED)


def test_codestream_of_20000_by_20000_pixels_is_not_decoded(verify):
    content = empty_codestream(20_000, 20_000)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    started = time.monotonic()
    same_size = FrameEntry("f" * 32, None, 1, JPEG_2000, None, 1, 20_000, 20_000)
    assert verify(same_size, content) == unknown(NotVerified.TOO_LARGE)
    assert verify(replace(same_size, rows=None, columns=None), content) == unknown(NotVerified.TOO_LARGE)
    assert verify(replace(same_size, rows=512, columns=512), content) == OTHER_SIZE
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss == before


@pytest.mark.parametrize("components", [1, 16_384])
def test_declared_components_count_as_memory(components):
    header = read_header(empty_codestream(512, 512, components=components))
    assert header.memory_bytes(Decoder.OPENJPEG, 0) == 512 * 512 * components * 6


# Wrong frames


@pytest.mark.parametrize("content", [b"", b"\xff\x4f\xff\x51", b"\x00" * 1000, b"\x00\x00\x00\x0cjP  \r\n\x87\n" * 9])
def test_damaged_headers_are_a_mismatch(verify, content):
    assert verify(entry_for(noise("u2")), content) == DAMAGED_HEADERS


def test_headers_above_the_maximum_are_a_mismatch(verify):
    comments = (b"\xff\x64\xff\xff" + b"\x00" * 0xFFFD) * (MAX_HEADER_BYTES // 0xFFFF + 1)
    content = htj2k(pixels := noise("u2"))
    at = content.index(b"\xff\x52")
    assert verify(entry_for(pixels), content[:at] + comments + content[at:]) == DAMAGED_HEADERS


@pytest.mark.parametrize("changes", [{"rows": 71}, {"columns": 89}])
def test_size_that_differs_from_the_metadata_is_a_mismatch(verify, changes):
    pixels = noise("u2")
    assert verify(replace(entry_for(pixels), **changes), htj2k(pixels)) == OTHER_SIZE


@pytest.mark.parametrize(("syntax", "encode"), [(HTJ2K, htj2k), (JPEG_2000, jpeg_2000)])
def test_truncated_frame_is_a_mismatch(verify, syntax, encode):
    content = encode(pixels := noise("u2"))
    assert verify(entry_for(pixels, syntax), content[: len(content) // 2]).mismatch


def test_frame_without_a_tile_part_is_a_mismatch(verify):
    content = htj2k(pixels := noise("u2"))
    assert verify(entry_for(pixels), content[: content.index(b"\xff\x90")] + b"\xff\x90" + b"\xff" * 50).mismatch


# Changed and arbitrary bytes

SMALL = noise("u2", (24, 20))
CODESTREAMS = {HTJ2K_RPCL: htj2k(SMALL), JPEG_2000: jpeg_2000(SMALL)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    syntax=st.sampled_from(sorted(CODESTREAMS)),
    changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=8),
    length=st.integers(0, 1400),
)
def test_changed_codestream_is_never_verified_with_other_pixels(verify, syntax, changes, length):
    content = bytearray(CODESTREAMS[syntax][:length])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    verdict = verify(entry_for(SMALL, syntax), bytes(content))
    if verdict == MATCH:
        # The change did not affect the pixels.
        decode = imagecodecs.htj2k_decode if syntax == HTJ2K_RPCL else imagecodecs.jpeg2k_decode
        assert np.array_equal(decode(bytes(content)), SMALL)
    else:
        assert (verdict.mismatch is None) != (verdict.not_verified is None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged_headers_or_a_valid_image(content):
    for head in (content, b"\xff\x4f\xff\x51" + content, CODESTREAMS[JPEG_2000][:40] + content):
        try:
            header = read_header(head)
        except DamagedHeaderError:
            continue
        assert header.columns > 0
        assert header.rows > 0
        assert 1 <= header.bits <= 38


# Decoder failures


def test_decoder_crash_is_not_a_mismatch(verify):
    class Crashing(DecoderProcess):
        def decode(self, content, size, decoder, seconds, *, all_layouts=False):
            # SIGSEGV, as from a fault in the library.
            self._running().send_signal(11)
            return super().decode(content, size, decoder, seconds, all_layouts=all_layouts)

    pixels = noise("u2")
    crashing = PixelVerifier(Crashing)
    assert verify(entry_for(pixels), htj2k(pixels), by=crashing) == unknown(NotVerified.DECODER_STOPPED)


@pytest.fixture(scope="module")
def slow():
    return slow_frame()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.1])
def test_verification_out_of_time_has_no_verdict(verify, slow, seconds):
    pixels, content = slow
    with pytest.raises(OutOfTimeError):
        verify(entry_for(pixels, JPEG_2000), content, seconds=seconds)
