"""Stores response bodies that are too large for a response. Clients fetch them by pre-signed URL, and they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.bucket_layout import body_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore, Written
    from framegate.time_budget import TimeBudget


class BodyStore:
    """The stored bodies. The bucket's lifecycle removes them after `BODY_LIFETIME_DAYS`.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    url_cache_control : str
        The Cache-Control header with which S3 answers pre-signed URLs.
    """

    def __init__(self, objects: ObjectStore, url_cache_control: str) -> None:
        self._objects = objects
        self._url_cache_control = url_cache_control

    def has(self, image_set: ImageSetRef, name: str, budget: TimeBudget) -> bool:
        """Whether a body is stored.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        return self._objects.head(body_key(image_set, name), budget) is not None

    def store(
        self,
        image_set: ImageSetRef,
        name: str,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        *,
        content_encoding: str | None = None,
        expected_size: int | None = None,
    ) -> Written:
        """Store a body from a stream. It appears after the last byte, or never.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        return self._objects.put(
            body_key(image_set, name),
            content_type,
            content,
            budget,
            expected_size=expected_size,
            content_encoding=content_encoding,
        )

    def presigned_url(
        self,
        image_set: ImageSetRef,
        name: str,
        lifetime_seconds: int,
        *,
        for_head: bool = False,
        request_id: str | None = None,
    ) -> str:
        """Return a URL to GET a body, or with `for_head` to HEAD it; see `presigning.presigned_url`."""
        return self._objects.presigned_url(
            body_key(image_set, name),
            lifetime_seconds,
            cache_control=self._url_cache_control,
            for_head=for_head,
            request_id=request_id,
        )
