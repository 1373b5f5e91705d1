"""Brings one frame into the frame store, with as much patience as there is time."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from framegate.export.manifest import Outcome
from framegate.healthimaging.identifiers import FrameRef
from framegate.healthimaging.media_types import stored_syntax
from framegate.jpeg2000.pixels import UndecodableError, is_verifiable, pixel_checksum
from framegate.problems import PixelMismatch, Problem, Throttled, UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from framegate.export.manifest import ExportedFrame
    from framegate.export.pace import Pace
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.healthimaging.identifiers import ImageSetRef
    from framegate.storage.frame_store import FrameStore
    from framegate.time_budget import TimeBudget

ATTEMPTS = 4
"""Attempts at one frame in one invocation, those that were throttled not counted."""

LARGEST_VERIFIED = 256 * 1024 * 1024
"""Bytes of the largest frame that is decoded to verify it: its pixels have to fit the function's memory."""

DECODED_AT_ONCE = 2


class FrameCopier:
    """Copies frames from HealthImaging to the frame store; many threads can use one.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Where they go.
    pace : Pace
        How fast HealthImaging may be called.
    """

    def __init__(self, source: HealthImaging, store: FrameStore, pace: Pace) -> None:
        self._source = source
        self._store = store
        self._pace = pace
        self._decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)

    def copy(
        self, frame: ExportedFrame, image_set: ImageSetRef, budget: TimeBudget, *, known: bool, verify: bool
    ) -> Problem | None:
        """Copy a frame, if it is not there yet, and record what became of it.

        Faults are tried again, and throttling slows all threads down; neither loses the frame. If the time runs out
        before that ends, the frame is left to do.

        Parameters
        ----------
        frame : ExportedFrame
            The frame; its outcome is set, or left None.
        image_set : ImageSetRef
            The image set that it is in.
        budget : TimeBudget
            The time for it.
        known : bool
            Whether the store seems to have it.
        verify : bool
            Whether to decode it and compare its pixels with HealthImaging's checksum.

        Returns
        -------
        Problem or None
            What an attempt failed with; None if none did, or none was made.
        """
        frame.outcome = frame.detail = None
        problem: Problem | None = None
        failures = 0
        while not budget.exhausted:
            try:
                ref = FrameRef(image_set.datastore_id, image_set.image_set_id, frame.entry.image_frame_id)
                if not frame.outcome:
                    self._find_or_copy(frame, ref, budget, known=known)
                if verify:
                    self._verify(frame, ref, budget)
            except Throttled as throttled:
                self._pace.slow_down()
                problem = throttled.to_keep()
            except (UpstreamFailed, UpstreamTimeout) as failure:
                # That the time ran out in the end is not the reason, where there is one.
                failure.to_keep()
                problem = problem if problem and budget.exhausted else failure
                failures += 1
                if failures == ATTEMPTS and not budget.exhausted:
                    frame.fail(failure)
                    return failure
                time.sleep(min(random.uniform(0, 0.1 * 2**failures), budget.remaining()))  # noqa: S311 - jitter
            except Problem as final:
                frame.fail(final)
                return final.to_keep()
            else:
                return None
        # Copied, perhaps, but not verified.
        frame.outcome = None
        return problem

    def _find_or_copy(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget, *, known: bool) -> None:
        stored = self._store.find(ref, budget) if known else None
        if stored:
            frame.content_type, frame.size, frame.checksum = stored.content_type, stored.size, stored.checksum
            frame.outcome = Outcome.PRESENT
            return
        self._pace.wait(budget)
        # One attempt: that it failed has to be known here, where it slows the others down.
        self._source.fetch(ref, lambda stream: self._store_stream(frame, ref, stream, budget), budget, attempts=1)
        frame.outcome = Outcome.COPIED

    def _store_stream(self, frame: ExportedFrame, ref: FrameRef, stream: FrameStream, budget: TimeBudget) -> None:
        written = self._store.store(ref, stream.content_type, stream, budget, stream.content_length)
        frame.content_type, frame.size, frame.checksum = stream.content_type, written.size, written.checksum

    def _verify(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        """Compare what is in the store, as it is there, with what HealthImaging took in."""
        syntax = stored_syntax(frame.entry.transfer_syntax_uid, frame.content_type or "")
        expected = frame.entry.checksum
        if expected is None or syntax is None or not is_verifiable(syntax) or (frame.size or 0) > LARGEST_VERIFIED:
            return
        with self._decoding:
            content = b"".join(self._store.read(ref, budget))
            try:
                found = pixel_checksum(content, syntax)
            except UndecodableError:
                found = None
        if found != expected:
            self._store.mark_mismatch(ref, budget)
            what = "The stored frame does not decode" if found is None else "The stored frame decodes to other pixels"
            raise PixelMismatch(what)
        frame.verified = True
