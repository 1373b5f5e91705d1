"""Brings one frame into the frame store, with as much patience as there is time."""

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

ATTEMPTS = 4
"""Attempts at one frame in one invocation, those that were throttled not counted."""


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
    verifier : PixelVerifier, optional
        What compares pixels; its processes start with the first frame to decode.
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
        known: bool,
        mismatched: bool,
        verify: bool,
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
        mismatched : bool
            Whether an earlier export found a copy of it wrong, and none found a right one since.
        verify : bool
            Whether to decode it and compare its pixels with HealthImaging's checksum.

        Returns
        -------
        Problem or None
            What an attempt failed with; None if none did, or none was made.
        """
        frame.outcome = frame.detail = frame.not_verified = None
        frame.verified = False
        ref = FrameRef(image_set.datastore_id, image_set.image_set_id, frame.entry.image_frame_id)
        problem: Problem | None = None
        failures = 0
        while not budget.exhausted:
            try:
                self._attempt(frame, ref, budget, known=known, mismatched=mismatched, verify=verify)
            except Throttled as throttled:
                self._pace.slow_down()
                problem = throttled.without_traceback()
            except OutOfTimeError:
                problem = problem or UpstreamTimeout("The decoder")
                break
            except (UpstreamFailed, UpstreamTimeout) as failure:
                # That the time ran out in the end is not the reason, where there is one.
                failure.without_traceback()
                problem = problem if problem and budget.exhausted else failure
                failures += 1
                if failures == ATTEMPTS and not budget.exhausted:
                    frame.fail(failure)
                    return failure
                time.sleep(min(random.uniform(0, 0.1 * 2**failures), budget.remaining()))  # noqa: S311 - jitter
            except Problem as final:
                frame.fail(final)
                return final.without_traceback()
            else:
                return None
            known = known or frame.outcome is not None
        # Copied, perhaps, but not verified.
        frame.outcome = None
        return problem

    def _attempt(
        self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget, *, known: bool, mismatched: bool, verify: bool
    ) -> None:
        stored = None
        if known:
            stored, is_tagged = self._store.look_up(ref, budget)
            mismatched = mismatched or is_tagged
        if mismatched and not verify:
            raise PixelMismatch(
                "An earlier export found a wrong copy, and no verifying export found a right one since."
            )
        try:
            if mismatched:
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
        # One attempt: that it failed has to be known here, where it slows the others down.
        self._source.fetch(ref, store, budget, attempts=1)
        frame.outcome = Outcome.COPIED

    def _verify(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        """Verify the stored frame, and put it out of reach if it is wrong."""
        stored = self._store.find(ref, budget)
        if stored is None:
            raise ObjectChangedError
        verdict = self._verdict_on(frame, ref, stored, budget)
        if verdict.mismatch:
            self._store.quarantine(ref, stored.etag, budget)
            self._report_mismatch(frame, ref, verdict.mismatch)

    def _replace(self, frame: ExportedFrame, ref: FrameRef, budget: TimeBudget) -> None:
        """Fetch a frame again of which a copy was wrong; it stays out of reach until it is verified."""
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
        verdict = self._verdict_on(frame, ref, stored, budget, is_mismatched=True)
        if verdict == MATCH:
            self._store.release(ref, stored.etag, budget)
            self._record(frame, Outcome.COPIED, stored)
            return
        if verdict.mismatch:
            # A request may have stored the same pixels meanwhile.
            self._store.remove(ref, budget)
        self._report_mismatch(
            frame, ref, verdict.mismatch or "An earlier copy was wrong, and the new one could not be verified."
        )

    def _verdict_on(
        self,
        frame: ExportedFrame,
        ref: FrameRef,
        stored: StoredObject,
        budget: TimeBudget,
        *,
        is_mismatched: bool = False,
    ) -> Verdict:
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

    def _report_mismatch(self, frame: ExportedFrame, ref: FrameRef, what: str) -> None:
        logger.error("frame found wrong", extra=_identifiers(ref))
        # Nothing is under the key of the manifest's line.
        frame.content_type = frame.size = frame.checksum = None
        raise PixelMismatch(what)


def _identifiers(ref: FrameRef) -> dict[str, str]:
    return {
        "datastore_id": ref.datastore_id,
        "image_set_id": ref.image_set_id,
        "image_frame_id": ref.image_frame_id,
    }
