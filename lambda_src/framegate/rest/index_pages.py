"""Handles the route that returns the frame index of an image set, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.access.decision import Action
from framegate.identifiers import ImageSetRef
from framegate.rest.access_check import require_access
from framegate.rest.index_responses import index_not_modified_response, index_response, index_tag
from framegate.rest.parameters import index_query
from framegate.rest.preconditions import Preconditions
from framegate.rest.routes import FRAME_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.access.image_sets import ImageSetAccess
    from framegate.index.frame_index import FrameIndex
    from framegate.rest.exchange import Exchange, Handler
    from framegate.rest.http import HttpResponse


class IndexHandlers:
    """The handler of the frame index.

    Parameters
    ----------
    access : ImageSetAccess
        Decides who may read an image set.
    index : FrameIndex
        Lists the frames of an image set.
    cache_control : str
        The Cache-Control header of pages.
    """

    def __init__(self, access: ImageSetAccess, index: FrameIndex, cache_control: str) -> None:
        self._access = access
        self._cache_control = cache_control
        self._index = index

    @property
    def by_operation(self) -> Mapping[str, Handler]:
        """The handler of each operation, by operation id."""
        return {FRAME_INDEX.operation_id: self._page}

    def _page(self, exchange: Exchange) -> HttpResponse:
        request = exchange.request
        image_set = ImageSetRef(request.path["datastoreId"], request.path["imageSetId"])
        exchange.record.update(datastore_id=image_set.datastore_id, image_set_id=image_set.image_set_id)
        require_access(exchange, self._access, image_set, Action.LIST_FRAMES)
        query = index_query(request)
        exchange.begin_read()
        version_id = self._index.version(image_set, query.version_id, exchange.budget)
        exchange.record.update(version_id=version_id)
        tag = index_tag(image_set, version_id)
        if Preconditions.of(request).evaluate(tag):
            return index_not_modified_response(tag, self._cache_control)
        page = self._index.page(image_set, version_id, query, exchange.budget)
        exchange.record.update(frames=len(page.frames))
        return index_response(image_set, version_id, page, self._cache_control)
