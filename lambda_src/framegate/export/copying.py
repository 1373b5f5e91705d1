"""Copies single frames into the frame store, and retries until a frame is there or the time runs out."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from framegate.export.manifest import Outcome
from framegate.export.verifying import MATCH, NotVerified, OutOfTimeError, PixelVerifier
from framegate.identifiers import FrameRef
from framegate.observability import logger
from framegate.problems import PixelMismatch, Problem, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.storage.object_store import ObjectChangedError

if TYPE_CHECKING:
    from framegate.export.manifest import ExportedFrame
    from framegate.export.pace import Pace
    from framegate.export.verifying import Verdict
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.storage.frame_store import FrameStore
    from framegate.storage.object_store import StoredObject
    from framegate.time_budget import TimeBudget

MAX_FRAME_ATTEMPTS = 4
"""Maximum number of attempts at one frame in one invocation. Throttled attempts do not count."""


class FrameCopier:
    """Copies frames from HealthImaging to the frame store. Threads can share one copier.

    Parameters
    ----------
    source : HealthImaging
        Provides the frames.
    store : FrameStore
        Receives the frames.
    pace : Pace
        Limits the rate of calls to HealthImaging.
    verifier : PixelVerifier, optional
        Verifies pixels. Its decoder processes start with the first frame that needs decoding.
    """

    def __init__(
        self, source: HealthImaging, store: FrameStore, pace: Pace, verifier: PixelVerifier | None = None
    ) -> None:
        self._source = source
        self._store = store
        self._pace = pace
        self._verifier = verifier or PixelVerifier()

    def copy(
        self,
        frame: ExportedFrame,
        image_set: ImageSetRef,
        budget: TimeBudget,
        *,
        may_be_stored: bool,
        is_mismatched: bool,
        verify: bool,
    ) -> Problem | None:
        """Copy a frame unless it is stored already, and record the outcome.

        Faults are retried, and throttling slows down all threads. If the time runs out first, the outcome stays None,
        and a later invocation continues.

        Parameters
        ----------
        frame : ExportedFrame
            The frame. Its outcome is set, or stays None.
        image_set : ImageSetRef
            The image set that contains the frame.
        budget : TimeBudget
            The time for all attempts.
        may_be_stored : bool
            Whether a listing of the store contained the frame.
        is_mismatched : bool
            Whether an earlier export found a copy with wrong pixels, and no export has found a right one since.
        verify : bool
            Whether to decode the frame and compare its pixels with HealthImaging's checksum.

        Returns
        -------
        Problem or None
            The problem of a failed attempt; None if no attempt failed, or none was made.
        """
        frame.outcome = frame.detail = frame.not_verified = None
        frame.verified = False
        ref = FrameRef(image_set.datastore_id, image_set.image_set_id, frame.entry.image_frame_id)
        problem: Problem | None = None
        failures = 0
        while not budget.exhausted:
            try:
                self._attempt(
                    frame, ref, budget, may_be_stored=may_be_stored, is_mismatched=is_mismatched, verify=verify
                )
            except Throttled as throttled:
                self._pace.slow_down()
                problem = throttled.without_traceback()
            except OutOfTimeError:
                problem = problem or UpstreamTimeout("The decoder")
                break
            except (UpstreamFailed, UpstreamTimeout) as failure:
                # An attempt that only ran out of time must not hide the cause of an earlier failure.
                failure.without_traceback()
                problem = problem if problem and budget.exhausted else failure
                failures += 1
                if failures == MAX_FRAME_ATTEMPTS and not budget.exhausted:
                    frame.fail(failure)
                    return failure
                time.sleep(min(random.uniform(0, 0.1 * 2**failures), budget.remaining()))  # noqa: S311 - jitter
            except Problem as final:
                frame.fail(final)
                return final.without_traceback()
            else:
                return None
            may_be_stored = may_be_stored or frame.outcome is not None
        # The frame may be copied, but its verification is not complete.
        frame.outcome = None
        return problem

    def _attempt(
        self,
        frame: ExportedFrame,
        ref: FrameRef,
        budget: TimeBudget,
        *,
        may_be_stored: bool,
        is_mismatched: bool,
        verify: bool,
    ) -> None:
        stored = None
        if may_be_stored:
            found = self._store.look_up(ref, budget)
            is_mismatched = is_mismatched or (found is not None and found.is_mismatched)
            if found and (is_mismatched or not found.is_temporary or self._store.make_permanent(ref, found, budget)):
                stored = found.stored
        if is_mismatched and not verify:
            raise PixelMismatch(
                "An earlier export found a wrong copy, and no verifying export found a right one since."
            )
        try:
            if is_mismatched:
                self._replace(frame, ref, budget)
                return
            if stored:
                self._record(frame, frame.outcome or Outcome.PRESENT, stored)
            else:
                self._copy(frame, ref, budget)
            if verify:
                self._verify(frame, ref, budget)
        except ObjectChangedError:
            raise UpstreamFailed("S3", "has another object than the one that was verified") from None

    def _record(self, frame: ExportedFrame, outcome: str, stored: StoredObject) -> None:
        frame.content_type, frame.size, frame.checksum = stored.content_type, stored.size, stored.checksum
        frame.outcome = outcome

    def _copy(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        def store(stream: FrameStream) -> None:
            written = self._store.store(ref, stream.content_type, stream, budget, stream.content_length)
            frame.content_type, frame.size, frame.checksum = stream.content_type, written.size, written.checksum

        self._pace.wait(budget)
        # The client must not retry: each throttled call has to slow down all threads.
        self._source.fetch(ref, store, budget, attempts=1)
        frame.outcome = Outcome.COPIED

    def _verify(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        """Verify the stored frame, and quarantine it if its pixels are wrong."""
        stored = self._store.find(ref, budget)
        if stored is None:
            raise ObjectChangedError
        verdict = self._compare(frame, ref, stored, budget)
        if verdict.mismatch:
            self._store.quarantine(ref, stored.etag, budget)
            self._report_mismatch(frame, ref, verdict.mismatch)

    def _replace(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        """Fetch a mismatched frame again. The new copy stays quarantined until it is verified."""
        self._pace.wait(budget)
        self._source.fetch(
            ref,
            lambda stream: self._store.store_quarantined(
                ref, stream.content_type, stream, budget, stream.content_length
            ),
            budget,
            attempts=1,
        )
        stored = self._store.find_quarantined(ref, budget)
        if stored is None:
            raise ObjectChangedError
        verdict = self._compare(frame, ref, stored, budget, is_mismatched=True)
        if verdict == MATCH:
            self._store.release(ref, stored.etag, budget)
            self._record(frame, Outcome.COPIED, stored)
            return
        if verdict.mismatch:
            # A request may have stored the same wrong pixels in the meantime.
            self._store.remove(ref, budget)
        self._report_mismatch(
            frame, ref, verdict.mismatch or "An earlier copy was wrong, and the new one could not be verified."
        )

    def _compare(
        self,
        frame: ExportedFrame,
        ref: FrameRef,
        stored: StoredObject,
        budget: TimeBudget,
        *,
        is_mismatched: bool = False,
    ) -> Verdict:
        """Compare the pixels of a stored frame with HealthImaging's checksum, and record the result in the frame."""
        verdict = self._verifier.verify(
            frame.entry,
            stored.content_type,
            stored.size,
            lambda: self._store.read_unchanged(ref, stored.etag, budget, is_mismatched=is_mismatched),
            budget,
        )
        frame.verified, frame.not_verified = verdict == MATCH, verdict.not_verified
        if verdict.not_verified is NotVerified.DECODER_STOPPED:
            logger.warning("frame not verified", extra={**_identifiers(ref), "reason": verdict.not_verified})
        return verdict

    def _report_mismatch(self, frame: ExportedFrame, ref: FrameRef, detail: str) -> None:
        logger.error("pixel mismatch", extra=_identifiers(ref))
        # The key in the frame's manifest line holds no object now.
        frame.content_type = frame.size = frame.checksum = None
        raise PixelMismatch(detail)


def _identifiers(ref: FrameRef) -> dict[str, str]:
    return {
        "datastore_id": ref.datastore_id,
        "image_set_id": ref.image_set_id,
        "image_frame_id": ref.image_frame_id,
    }
