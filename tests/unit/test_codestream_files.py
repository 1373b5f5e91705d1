"""Codestreams in JPH and JP2 files."""

from __future__ import annotations

import pytest

from framegate.jpeg2000.codestream import EOC, MAX_HEADER_BYTES, NotDivisibleError, read_codestream
from tests.unit.codestreams import (
    CONTENT,
    FILE_TYPE,
    GREY,
    IMAGE_HEADER,
    PLAIN,
    RGB,
    SIGNATURE,
    SOT,
    YCC,
    Prefix,
    assert_resolutions_are_those_of_the_whole,
    box,
    file_of,
    find,
    resolution_ends,
)

FORMS = ["length", "to the end", "XLBox"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codestream", [CONTENT, PLAIN], ids=["TLM", "no TLM"])
def test_file_format_does_not_change_the_resolution_ends(codestream, form):
    content = file_of(codestream, form=form)
    found, ends = resolution_ends(content)
    alone, ends_alone = resolution_ends(codestream)

    assert content[found.start :] == codestream
    assert found.resolutions == alone.resolutions
    assert ends == [found.start + end for end in ends_alone]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(box(b"xml ", b"<a/>"), id="XML"),
        pytest.param(box(b"uuid", bytes(3000)), id="UUID"),
        pytest.param(box(b"uuid", bytes(30), form="XLBox"), id="XLBox"),
        pytest.param(box(b"free", b""), id="empty"),
    ],
)
def test_boxes_that_do_not_affect_pixels_are_skipped(more):
    content = file_of(CONTENT, more=more)
    codestream, _ = resolution_ends(content)

    assert content[codestream.start :] == CONTENT


def test_boxes_after_the_codestream_are_ignored():
    content = file_of(CONTENT) + box(b"xml ", b"<a/>")
    codestream, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC + box(b"xml ", b"<a/>")
    assert_resolutions_are_those_of_the_whole(content[: -len(box(b"xml ", b"<a/>"))])
    assert codestream.start == len(content) - len(box(b"xml ", b"<a/>")) - len(CONTENT)


@pytest.mark.parametrize("colour", [GREY, RGB, box(b"colr", b"\2\0\0" + bytes(400))], ids=["grey", "RGB", "ICC"])
def test_grey_and_rgb_files_are_divisible(colour):
    resolution_ends(file_of(CONTENT, header=IMAGE_HEADER + colour + box(b"res ", bytes(20))))


def test_file_header_is_read_no_further_than_the_next_marker():
    content = file_of(CONTENT)
    prefix = Prefix(content)
    codestream = read_codestream(prefix)

    assert len(prefix.given) == codestream.start + find(CONTENT, SOT) + 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(SIGNATURE, "truncated", id="nothing but the signature"),
        pytest.param(SIGNATURE + FILE_TYPE, "truncated", id="no codestream"),
        pytest.param(
            SIGNATURE + box(b"free", b"", form="to the end"), "no codestream in the file", id="box up to the end"
        ),
        pytest.param(SIGNATURE + b"\0\0\0\7free", "shorter than its header", id="box of 7 bytes"),
        pytest.param(SIGNATURE + b"\0\0\0\2free", "shorter than its header", id="box of 2 bytes"),
        pytest.param(
            SIGNATURE + b"\0\0\0\1free" + (15).to_bytes(8, "big"), "shorter than its header", id="XLBox of 15 bytes"
        ),
        pytest.param(SIGNATURE + b"\0\0\0\1free" + b"\xff" * 8, "truncated", id="XLBox of 2**64 - 1 bytes"),
        pytest.param(SIGNATURE + b"\0\0\0\1jp2c" + b"\xff" * 8, "truncated", id="codestream of 2**64 - 1 bytes"),
        pytest.param(SIGNATURE + b"\xff\xff\xff\xffjp2h", "truncated", id="header of 2**32 - 1 bytes"),
        pytest.param(SIGNATURE + box(b"jp2c", b""), "truncated", id="empty codestream"),
        pytest.param(file_of(bytes(100)), "not a JPEG 2000 codestream", id="another codestream"),
        pytest.param(file_of(CONTENT, more=box(b"uuid", bytes(MAX_HEADER_BYTES))), "too long", id="long boxes"),
        pytest.param(file_of(CONTENT, header=b"\0\0\0\7ihdr"), "shorter than its header", id="short box in the header"),
        pytest.param(file_of(CONTENT, header=b"\0\0\5"), "shorter than its header", id="piece of a box in the header"),
        pytest.param(file_of(CONTENT, header=IMAGE_HEADER + YCC), "changes the pixels", id="sYCC"),
        pytest.param(
            file_of(CONTENT, header=IMAGE_HEADER + box(b"colr", b"\1\0\0")), "changes the pixels", id="no colour"
        ),
        pytest.param(file_of(CONTENT, header=GREY + box(b"pclr", bytes(9))), "changes the pixels", id="palette"),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"cmap", bytes(4))), "changes the pixels", id="component mapping"
        ),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"cdef", bytes(8))), "changes the pixels", id="channel definition"
        ),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"pclr", bytes(9), form="to the end")),
            "changes the pixels",
            id="to the end",
        ),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"pclr", bytes(9), form="XLBox")),
            "changes the pixels",
            id="XLBox palette",
        ),
        pytest.param(
            file_of(CONTENT, more=box(b"jp2h", box(b"pclr", bytes(9)))),
            "changes the pixels",
            id="second header's palette",
        ),
        pytest.param(file_of(CONTENT[:-3]), "beyond its box", id="last tile-part beyond its box"),
        pytest.param(
            file_of(CONTENT, more=box(b"jpch", box(b"pclr", bytes(9)))), "can change its pixels", id="palette elsewhere"
        ),
    ],
)
def test_unsupported_or_damaged_file_is_indivisible(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)
