"""Creates, takes apart and damages codestreams for tests, without the code under test."""

from __future__ import annotations

import io
from itertools import accumulate, pairwise

import imagecodecs
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from framegate.jpeg2000.codestream import EOC, read_codestream
from framegate.jpeg2000.packets import CodingStyle

SIZ, COD, COC, QCD = b"\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\x5c"
TLM, PLT, POC, PPM, PPT, COM = b"\xff\x55", b"\xff\x58", b"\xff\x5f", b"\xff\x60", b"\xff\x61", b"\xff\x64"
SOC, SOT, SOD = b"\xff\x4f", b"\xff\x90", b"\xff\x93"
MIB = 1024 * 1024


class Prefix:
    """A frame in memory that returns no more bytes than were requested."""

    def __init__(self, content, given=None):
        self.content = content
        self.given = bytearray() if given is None else given
        self.asks = []

    def at_least(self, size):
        self.asks.append(size)
        if size > len(self.given):
            self.given += self.content[len(self.given) : size]
        return self.given


def image(rows, columns, *, components=1, dtype="uint16", kind="structure", seed=7):
    """Pixels with structure at every scale, with noise over the full range, or of one value."""
    shape = (rows, columns) if components == 1 else (rows, columns, components)
    noise = np.random.default_rng(seed)
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    if kind == "constant":
        return np.full(shape, (lowest + highest + 1) // 2, dtype)
    if kind == "noise":
        return noise.integers(lowest, highest, shape, dtype, endpoint=True)
    y, x = np.mgrid[:rows, :columns]
    smooth = np.sin(x / 7) * np.cos(y / 5) / 4 + 0.5
    smooth = smooth if components == 1 else np.stack([smooth * (1 - 0.1 * n) for n in range(components)], axis=-1)
    return ((smooth + noise.normal(0, 0.01, shape)) * (highest - lowest) + lowest).astype(dtype)


def encoded(pixels, **options):
    """A frame encoded as HealthImaging encodes it."""
    defaults = {
        "reversible": True,
        "resolutions": 2,
        "tlm": True,
        "tilepart": imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
    }
    return bytes(imagecodecs.htj2k_encode(pixels, **{**defaults, **options}))


def noise(dtype, shape=(70, 90), bits=None):
    """Random pixels of `bits` bits."""
    bits = bits or np.dtype(dtype).itemsize * 8
    low = -(2 ** (bits - 1)) if np.dtype(dtype).kind == "i" else 0
    return np.random.default_rng(1).integers(low, low + 2**bits, shape).astype(dtype)


def htj2k(pixels, **options):
    """A lossless HTJ2K codestream by OpenJPH."""
    return bytes(imagecodecs.htj2k_encode(pixels, **{"reversible": True, **options}))


def jpeg_2000(pixels, **options):
    """A lossless JPEG 2000 codestream by OpenJPEG."""
    return bytes(imagecodecs.jpeg2k_encode(pixels, **{"reversible": True, "level": 0, "codecformat": "j2k", **options}))


def slow_frame():
    """Pixels, and a codestream of them that takes seconds to decode."""
    pixels = np.tile(noise("u2", (500, 500)), (5, 5))
    return pixels, jpeg_2000(pixels)


def resolution_ends(content, given=None):
    """The codestream and the offset at which each resolution ends."""
    prefix = Prefix(content, given)
    codestream = read_codestream(prefix)
    return codestream, [codestream.end_of(each.number, prefix) for each in codestream.resolutions]


def by_openjpeg(content, skip, resolution):
    """Decode with OpenJPEG through Pillow, which may reduce the bits of samples."""
    picture = Image.open(io.BytesIO(content))
    # Pillow rounds the size of a resolution to the nearest integer, but OpenJPEG rounds it up.
    picture._size = (resolution.columns << skip, resolution.rows << skip)
    picture.reduce = skip
    return np.asarray(picture)


def assert_resolutions_are_those_of_the_whole(content, *, by_openjph=True):
    codestream, ends = resolution_ends(content)
    whole = content[codestream.start :]
    for resolution, end in zip(codestream.resolutions, ends, strict=True):
        skip = len(ends) - 1 - resolution.number
        part = content[codestream.start : end] + EOC
        if by_openjph:
            pixels = imagecodecs.htj2k_decode(part, skipres=skip)
            assert pixels.shape[:2] == (resolution.rows, resolution.columns)
            assert np.array_equal(pixels, imagecodecs.htj2k_decode(whole, skipres=skip))
        assert np.array_equal(by_openjpeg(part, skip, resolution), by_openjpeg(whole, skip, resolution))


# Parts of a codestream


def number(content, position, size):
    return int.from_bytes(content[position : position + size], "big")


def segment(marker, body):
    return marker + (len(body) + 2).to_bytes(2, "big") + body


def find(content, marker):
    """The offset of a marker segment in the main header. SOT marks the end of the header."""
    position = 2
    while content[position : position + 2] not in (marker, SOT):
        position += 2 + number(content, position + 2, 2)
    return position


def replaced(content, position, new, size=None):
    return content[:position] + new + content[position + (len(new) if size is None else size) :]


def within(content, marker, offset, new):
    """Replace bytes of a marker segment. Offsets start at the marker."""
    return replaced(content, find(content, marker) + offset, new)


def with_segment(content, marker, body):
    """Add a marker segment at the end of the main header."""
    return replaced(content, find(content, SOT), segment(marker, body), 0)


def without(content, marker):
    position = find(content, marker)
    return replaced(content, position, b"", 2 + number(content, position + 2, 2))


def exchanged(content, marker, body):
    """Replace the body of a marker segment in the main header."""
    return replaced(without(content, marker), find(content, marker), segment(marker, body), 0)


def body_of(content, marker):
    position = find(content, marker)
    return content[position + 4 : position + 2 + number(content, position + 2, 2)]


def tile_parts(content):
    """All tile-parts in their order."""
    position, parts = find(content, SOT), []
    while content[position : position + 2] == SOT:
        parts.append(content[position : position + number(content, position + 6, 4)])
        position += len(parts[-1])
    return parts


def tile_part(part, parts, data, header=b""):
    """Make a tile-part from packets and marker segments."""
    length = 12 + len(header) + 2 + len(data)
    return segment(SOT, b"\0\0" + length.to_bytes(4, "big") + bytes([part, parts])) + header + SOD + data


def joined(content, parts):
    """Join the main header of a codestream with other tile-parts."""
    return content[: find(content, SOT)] + b"".join(parts) + EOC


def data_of(part):
    """The packets of a tile-part without further marker segments."""
    assert part[12:14] == SOD
    return part[14:]


def box(kind, content, *, form="length"):
    if form == "to the end":
        return bytes(4) + kind + content
    if form == "XLBox":
        return b"\0\0\0\1" + kind + (16 + len(content)).to_bytes(8, "big") + content
    return (8 + len(content)).to_bytes(4, "big") + kind + content


SIGNATURE = box(b"jP  ", b"\r\n\x87\n")
FILE_TYPE = box(b"ftyp", b"jph \0\0\0\0jph ")
IMAGE_HEADER = box(b"ihdr", (40).to_bytes(4, "big") + (60).to_bytes(4, "big") + b"\0\1\x0f\7\0\0")
GREY, RGB, YCC = (box(b"colr", b"\1\0\0" + space.to_bytes(4, "big")) for space in (17, 16, 18))


def file_of(codestream, *, form="length", header=IMAGE_HEADER + GREY, more=b""):
    """Wrap a codestream in a JPH file."""
    return SIGNATURE + FILE_TYPE + box(b"jp2h", header) + more + box(b"jp2c", codestream, form=form)


PIXELS = image(40, 60)
CONTENT = encoded(PIXELS)
PLAIN = encoded(PIXELS, tlm=False)
COLOURS = encoded(image(33, 47, components=3, dtype="uint8"), resolutions=3)


def coding_style(decompositions, block_style=0x40, block_size=(6, 6)):
    """A coding style, by default that of HealthImaging: HT code-blocks of 64 by 64 samples."""
    return CodingStyle(
        components=1,
        decompositions=decompositions,
        by_position=True,
        block_width=block_size[0],
        block_height=block_size[1],
        block_style=block_style,
        precincts=((15, 15),) * (decompositions + 1),
        may_have_sop=False,
    )


SIZ_BODY, COD_BODY = body_of(CONTENT, SIZ), body_of(CONTENT, COD)


def by_pillow(pixels, decompositions, **options):
    """Encode with OpenJPEG; return the codestream, and the lengths (from PLT) and bytes of its packets."""
    written = io.BytesIO()
    options = {"no_jp2": True, "num_resolutions": decompositions + 1, "progression": "RPCL", **options}
    Image.fromarray(pixels).save(written, "JPEG2000", plt=True, **options)
    content = written.getvalue()
    (part,) = tile_parts(content)
    lengths, position, value = [], 12, 0
    while part[position : position + 2] == PLT:
        size = number(part, position + 2, 2)
        for byte in part[position + 5 : position + 2 + size]:
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                lengths.append(value)
                value = 0
        position += 2 + size
    assert part[position : position + 2] == SOD
    assert sum(lengths) == len(part) - position - 2
    return content, lengths, part[position + 2 :]


def packets_of(content, decompositions):
    """The number of packets of each resolution (ITU-T T.800, B-16)."""
    x1, y1, x0, y0 = (number(content, find(content, SIZ) + 6 + 4 * n, 4) for n in range(4))
    components = number(content, find(content, SIZ) + 38, 2)
    precincts = body_of(content, COD)[10:] or b"\xff" * (decompositions + 1)
    counts = []
    for resolution, size in enumerate(precincts):
        scale = 1 << (decompositions - resolution)
        left, top, right, bottom = (-(-edge // scale) for edge in (x0, y0, x1, y1))
        wide, high = 1 << (size & 15), 1 << (size >> 4)
        counts.append((-(-right // wide) - left // wide) * (-(-bottom // high) - top // high) * components)
    return counts


def by_resolution(pixels, decompositions, *, before_packet=None, **options):
    """Encode with OpenJPEG, and put the packets of each resolution into a tile-part of their own."""
    content, lengths, data = by_pillow(pixels, decompositions, **options)
    ends = list(accumulate(lengths, initial=0))
    packets = [data[start:end] for start, end in pairwise(ends)]
    if before_packet:
        packets = [before_packet(n) + packet for n, packet in enumerate(packets)]
    counts = packets_of(content, decompositions)
    assert sum(counts) == len(packets)
    parts = [b"".join(packets[end - count : end]) for count, end in zip(counts, accumulate(counts), strict=True)]
    return joined(content, [tile_part(n, len(parts), each) for n, each in enumerate(parts)])


def start_of_packet(index):
    """The SOP marker segment of a packet (ITU-T T.800, A.8.1)."""
    return b"\xff\x91\0\4" + (index & 0xFFFF).to_bytes(2, "big")


GREY_8, GREY_16, COLOUR = image(90, 71, dtype="uint8"), image(90, 71), image(61, 90, components=3, dtype="uint8")


def numbers(*values):
    return b"".join(value.to_bytes(4, "big") for value in values)


def header(columns=60, rows=40, *, components=1, decompositions=0, block=b"\4\4", precincts=b"", more=b""):
    """Make the main header of an HTJ2K codestream in RPCL."""
    siz = b"\x40\0" + numbers(columns, rows, 0, 0, columns, rows, 0, 0) + components.to_bytes(2, "big")
    siz += b"\x0f\1\1" * components
    cod = bytes([bool(precincts), 2, 0, 1, 0, decompositions]) + block + b"\x40\1" + precincts
    return SOC + segment(SIZ, siz) + segment(COD, cod) + more


REAL = [
    CONTENT,
    PLAIN,
    COLOURS,
    file_of(CONTENT),
    file_of(PLAIN, form="XLBox"),
    encoded(image(9, 1), resolutions=4),
    encoded(image(70, 70, kind="noise"), resolutions=1),
    by_resolution(COLOUR, 2, precinct_size=(32, 32), codeblock_size=(8, 8)),
    within(by_resolution(GREY_8, 3, progression="RLCP", before_packet=start_of_packet), COD, 4, b"\2"),
]


CHANGE = st.tuples(
    st.sampled_from(["flip", "insert", "remove", "copy"]),
    st.one_of(st.integers(0, 1023), st.integers(0, 100_000)),
    st.binary(min_size=1, max_size=8),
    st.integers(0, 100_000),
)


def changed(content, changes):
    for how, position, new, source in changes:
        position %= len(content) + 1
        if how == "flip":
            content = replaced(content, position, bytes(a ^ b for a, b in zip(content[position:], new, strict=False)))
        elif how == "insert":
            content = replaced(content, position, new, 0)
        elif how == "remove":
            content = replaced(content, position, b"", len(new))
        else:
            source %= len(content) + 1
            content = replaced(content, position, content[source : source + 16])
    return content
