"""The API of frames, indexes and DICOMweb."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from framegate.delivery.executor import DEFER_SECONDS
from framegate.rest.frames import FrameHandlers
from framegate.rest.http_api import HttpApi
from framegate.rest.index_pages import IndexHandlers
from framegate.rest.routes import API_ROUTES, DICOMWEB_OPERATION_IDS
from framegate.settings import CACHE_CONTROL
from framegate.storage.object_writer import CLEANUP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from framegate.access.image_sets import ImageSetAccess
    from framegate.delivery.executor import FrameDelivery
    from framegate.index.frame_index import FrameIndex
    from framegate.rest.exchange import Exchange, Handler
    from framegate.rest.http import HttpResponse
    from framegate.settings import FrameCaching, Settings

RESERVED_SECONDS = CLEANUP_SECONDS + DEFER_SECONDS + 1.0
"""Seconds of an invocation that are reserved for cleaning up, deferring a store, and answering."""


class FrameApi(HttpApi):
    """The REST API without pictures.

    Parameters
    ----------
    settings : Settings
        The data stores that are served, the kind of authorization, and the allowed origins.
    delivery : FrameDelivery
        Delivers frames.
    index : FrameIndex
        Lists the frames of an image set.
    access : ImageSetAccess
        Decides who may read an image set.
    dicomweb : callable
        Returns the handlers of the DICOMweb operations, by operation id. The first request for one of them calls it,
        so that other requests need not wait for its imports.
    base64_apart : bool
        Whether bodies with base64 are `framegate.aws.lambda_runtime.Base64Text` instead of strings.
    """

    def __init__(
        self,
        settings: Settings,
        delivery: FrameDelivery,
        index: FrameIndex,
        access: ImageSetAccess,
        dicomweb: Callable[[], Mapping[str, Handler]],
        *,
        base64_apart: bool = False,
    ) -> None:
        self._build_dicomweb = dicomweb
        self.frames = FrameHandlers(access, delivery, CACHE_CONTROL[settings.frame_caching])
        # An image set can get a new version or be deleted, so no cache may use a page without asking.
        pages_caching: FrameCaching = "no-store" if settings.frame_caching == "no-store" else "revalidate"
        handlers: dict[str, Handler] = {
            **self.frames.by_operation,
            **IndexHandlers(access, index, CACHE_CONTROL[pages_caching]).by_operation,
            **{operation_id: partial(self._on_dicomweb, operation_id) for operation_id in DICOMWEB_OPERATION_IDS},
        }
        super().__init__(settings, API_ROUTES, handlers, RESERVED_SECONDS, base64_apart=base64_apart)

    def load_dicomweb(self) -> None:
        """Build the handlers of the DICOMweb operations now, instead of with the first request for one of them."""
        self._dicomweb  # noqa: B018 - a cached property

    @cached_property
    def _dicomweb(self) -> Mapping[str, Handler]:
        return self._build_dicomweb()

    def _on_dicomweb(self, operation_id: str, exchange: Exchange) -> HttpResponse:
        return self._dicomweb[operation_id](exchange)
