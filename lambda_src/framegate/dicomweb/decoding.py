"""Gets frames that HealthImaging decodes: uncompressed pixels, which its own DICOMweb returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from framegate.delivery.multipart import MultipartError, MultipartReader
from framegate.healthimaging.client import SERVICE
from framegate.healthimaging.media_types import EXPLICIT_LITTLE_ENDIAN, UNKNOWN, essence
from framegate.problems import FrameNotFound, InstanceNotFound, NotAcceptable, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from framegate.dicomweb.uids import SeriesAddress
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.time_budget import TimeBudget


Result = TypeVar("Result")

_ACCEPT = f"multipart/related; type={UNKNOWN}; transfer-syntax={EXPLICIT_LITTLE_ENDIAN}"


class DecodedFrames:
    """Frames in explicit little endian.

    Parameters
    ----------
    source : HealthImaging
        Decodes frames, at most 50 times a second for an account (GetDICOMInstanceFrames).
    """

    def __init__(self, source: HealthImaging) -> None:
        self._source = source

    def fetch(
        self,
        series: SeriesAddress,
        sop_instance_uid: str,
        numbers: Sequence[int],
        use: Callable[[Iterator[Iterator[bytes]]], Result],
        budget: TimeBudget,
    ) -> Result:
        """Open frames and pass them to `use`: an iterator of frames, each in pieces. Retry as `HealthImaging` does.

        Raises
        ------
        InstanceNotFound
            If HealthImaging has no such instance or frame.
        NotAcceptable
            If HealthImaging does not decode the frame. After an import with a warning, it sends such a frame as it is
            stored.
        UpstreamFailed
            If HealthImaging sends another number of frames, or something that is not multipart.
        Problem
            As `HealthImaging.fetch_dicomweb` raises it.

        References
        ----------
        AWS HealthImaging developer guide, "Getting DICOM instance frames".
        """

        def read(stream: FrameStream) -> Result:
            try:
                return use(_frames_in(stream, len(numbers)))
            except MultipartError as error:
                raise UpstreamFailed(SERVICE, f"sent a body that {error}") from None

        path = (*series.path, "instances", sop_instance_uid, "frames", ",".join(map(str, numbers)))
        try:
            return self._source.fetch_dicomweb(series.study.datastore_id, path, series.query, _ACCEPT, read, budget)
        except FrameNotFound:
            raise InstanceNotFound from None


def _frames_in(stream: FrameStream, expected: int) -> Iterator[Iterator[bytes]]:
    count = 0
    for content_type, content in MultipartReader(stream.content_type, stream).parts():
        syntax = content_type.lower().partition("transfer-syntax=")[2].strip('" ')
        if essence(content_type) != UNKNOWN or syntax not in ("", EXPLICIT_LITTLE_ENDIAN):
            raise NotAcceptable([content_type])
        count += 1
        yield content
    if count != expected:
        raise UpstreamFailed(SERVICE, "sent another number of frames")
