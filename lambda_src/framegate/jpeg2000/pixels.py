"""Reads what the headers of a frame declare about its pixels, which decides whether and how to decode it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNCOMPRESSED = "1.2.840.10008.1.2.1"

LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.90",  # JPEG 2000
        "1.2.840.10008.1.2.4.201",  # HTJ2K
        "1.2.840.10008.1.2.4.202",  # HTJ2K RPCL, the default format of a data store
    }
)
"""JPEG 2000 transfer syntaxes that are lossless by definition (DICOM PS3.5, sections A.4.4 and A.4.9)."""

LOSSLESS_OR_LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
        "1.2.840.10008.1.2.4.203",  # HTJ2K
    }
)
"""JPEG 2000 transfer syntaxes whose frames may be lossy (same sections). Decoders may differ on a lossy frame."""

MAX_HEADER_BYTES = 128 * 1024
"""Maximum size of the boxes and the main header. HealthImaging's frames have a few hundred bytes."""

MAX_TILES = 65_535
"""Maximum number of tiles of a codestream (ITU-T T.800, table A.5)."""

MAX_OPENJPEG_BITS = 16
"""Maximum bits of a sample for which a different result of OpenJPEG proves different pixels. OpenJPEG loses the lowest
bits of samples of more than 23 bits, and rejects HTJ2K samples of 32 bits."""

MAX_OPENJPH_BITS = 32
"""Maximum bits of a sample for which OpenJPH returns lossless samples unchanged."""

_SOC, _CAP, _SIZ, _COD, _SOT = 0xFF4F, 0xFF50, 0xFF51, 0xFF52, 0xFF90
_SIGNATURE_BOX = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_CODESTREAM_BOX = b"jp2c"
_REVERSIBLE = 1  # ITU-T T.800, table A.20: the 5-3 wavelet
_PART_15 = 0x4000  # ITU-T T.814, A.3: Rsiz of an HTJ2K codestream
_MAX_BITS = 38  # ITU-T T.800, table A.11


class DamagedHeaderError(ValueError):
    """The headers are not those of a JPEG 2000 codestream."""


class Decoder(StrEnum):
    """The decoders of the decoder process."""

    OPENJPH = "OpenJPH"
    OPENJPEG = "OpenJPEG"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the main header of a codestream declares.

    Attributes
    ----------
    columns, rows : int
        Size of the image in pixels.
    components : int
        Components of a pixel: 1 for grey, 3 for colour.
    bits : int
        Bits of a sample; the largest number where components differ.
    is_uniform : bool
        Whether all components have the same size, depth and sign.
    is_high_throughput : bool
        Whether the codestream may have HT code-blocks (ITU-T T.814).
    is_reversible : bool
        Whether the wavelet transformation is reversible (ITU-T T.800, table A.20).
    decompositions : int
        Number of wavelet decompositions: one less than the number of resolutions (ITU-T T.800, table A.15).
    """

    columns: int
    rows: int
    components: int
    bits: int
    is_uniform: bool
    is_high_throughput: bool
    is_reversible: bool
    decompositions: int

    @property
    def sample_bytes(self) -> int:
        """Number of bytes in which decoders return a sample."""
        return next((size for size in (1, 2, 4) if self.bits <= 8 * size), 8)

    @property
    def decoders(self) -> tuple[Decoder, ...]:
        """The decoders to try, in this order, until one returns the expected pixels."""
        return (Decoder.OPENJPH, Decoder.OPENJPEG) if self.is_high_throughput else (Decoder.OPENJPEG,)

    def proves_mismatch(self, decoder: Decoder) -> bool:
        """Whether the frame is wrong if this decoder returns other pixels or an error."""
        bits = MAX_OPENJPH_BITS if decoder is Decoder.OPENJPH else MAX_OPENJPEG_BITS
        return self.is_uniform and self.bits <= bits

    def memory_bytes(self, decoder: Decoder, content_size: int) -> int:
        """Memory for decoding, according to measurements: the frame, its samples, and OpenJPEG's 32-bit samples."""
        per_sample = self.sample_bytes + (4 if decoder is Decoder.OPENJPEG else 0)
        return content_size + self.columns * self.rows * self.components * per_sample


def is_codestream(head: bytes) -> bool:
    """Return whether a frame begins like a JPEG 2000 codestream or file."""
    return head[:4] == b"\xff\x4f\xff\x51" or head.startswith(_SIGNATURE_BOX)


def read_header(head: bytes) -> ImageHeader:
    """Read the main header of a frame.

    Parameters
    ----------
    head : bytes
        The first ``MAX_HEADER_BYTES`` bytes of the frame, or the whole frame if it is shorter.

    Raises
    ------
    DamagedHeaderError
        If the main header is missing or damaged.

    References
    ----------
    ITU-T T.800, annex A for marker segments and annex I for the boxes of a file; ITU-T T.814, annex A for HTJ2K.
    """
    position = _start_of_codestream(head)
    if _number(head, position, 2) != _SOC or _number(head, position + 2, 2) != _SIZ:
        raise DamagedHeaderError("The frame is not a JPEG 2000 codestream.")
    siz, cod, has_capabilities = b"", b"", False
    position += 2
    while (marker := _number(head, position, 2)) != _SOT:
        length = _number(head, position + 2, 2)
        if marker < 0xFF00 or length < 2:
            raise DamagedHeaderError("The main header has no marker segment where one should begin.")
        segment = head[position + 2 : position + 2 + length]
        if marker == _SIZ:
            siz = siz or segment
        elif marker == _CAP:
            has_capabilities = True
        elif marker == _COD:
            cod = cod or segment
        position += 2 + length
    if not cod:
        raise DamagedHeaderError("The main header has no COD marker segment.")
    return _image_of(siz, cod, has_capabilities)


def _image_of(siz: bytes, cod: bytes, has_capabilities: bool) -> ImageHeader:
    """Read SIZ and COD (ITU-T T.800, A.5.1 and A.6.1)."""
    count = _number(siz, 36, 2)
    if not count or len(siz) != 38 + 3 * count:
        raise DamagedHeaderError("SIZ has a wrong length.")
    right, bottom, left, top = (_number(siz, 4 + 4 * n, 4) for n in range(4))
    tile_width, tile_height, tiles_left, tiles_top = (_number(siz, 20 + 4 * n, 4) for n in range(4))
    if not (tiles_left <= left < tiles_left + tile_width and tiles_top <= top < tiles_top + tile_height):
        # A decoder divides by the size of a tile.
        raise DamagedHeaderError("SIZ has no tile at the start of the image.")
    tiles = -(-(right - tiles_left) // tile_width) * -(-(bottom - tiles_top) // tile_height)
    if tiles > MAX_TILES:
        raise DamagedHeaderError("SIZ has more tiles than a codestream can have.")
    components = {bytes(siz[at : at + 3]) for at in range(38, len(siz), 3)}
    _, column_step, row_step = min(components, key=lambda each: (each[1], each[2]))
    if not column_step or not row_step:
        raise DamagedHeaderError("SIZ has a component without a sampling step.")
    columns = -(-right // column_step) - -(-left // column_step)
    rows = -(-bottom // row_step) - -(-top // row_step)
    bits = max((each[0] & 0x7F) + 1 for each in components)
    if columns <= 0 or rows <= 0 or bits > _MAX_BITS:
        raise DamagedHeaderError("SIZ declares an impossible image.")
    return ImageHeader(
        columns=columns,
        rows=rows,
        components=count,
        bits=bits,
        is_uniform=len(components) == 1 and (column_step, row_step) == (1, 1),
        is_high_throughput=has_capabilities or bool(_number(siz, 2, 2) & _PART_15),
        is_reversible=_number(cod, 11, 1) == _REVERSIBLE,
        decompositions=_number(cod, 7, 1),
    )


def _start_of_codestream(head: bytes) -> int:
    """Return the offset of the codestream: 0, or the content of a file's box (ITU-T T.800, I.4 and I.5.4)."""
    if not head.startswith(_SIGNATURE_BOX):
        return 0
    position = len(_SIGNATURE_BOX)
    while True:
        length, kind, content = _number(head, position, 4), head[position + 4 : position + 8], position + 8
        if length == 1:
            length, content = _number(head, content, 8), content + 8
        if kind == _CODESTREAM_BOX:
            return content
        if length < content - position:
            raise DamagedHeaderError("The file has no codestream.")
        position += length


def _number(content: bytes, position: int, size: int) -> int:
    """Return an unsigned big-endian number."""
    found = content[position : position + size]
    if len(found) < size:
        raise DamagedHeaderError("The headers are truncated or too long.")
    return int.from_bytes(found, "big")
