"""Turns a page of the frame index into an HTTP response."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from framegate.index.builder import FORMAT
from framegate.rest.http import HttpResponse
from framegate.rest.negotiation import JSON
from framegate.rest.parameters import next_token

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef
    from framegate.index.frame_index import IndexPage


def index_tag(image_set: ImageSetRef, version_id: str) -> str:
    """The strong entity tag of a page. A version of an image set never changes, and the URL identifies the page."""
    return f'"{image_set.image_set_id}.version-{version_id}.{FORMAT}"'


def index_response(image_set: ImageSetRef, version_id: str, page: IndexPage, cache_control: str) -> HttpResponse:
    """``200`` with the frames of a page and the token of the next page."""
    document = {
        "datastoreId": image_set.datastore_id,
        "imageSetId": image_set.image_set_id,
        "versionId": version_id,
        **({} if page.next_position is None else {"nextToken": next_token(version_id, page.next_position)}),
    }
    # The lines are JSON already. Parsing and serialising them again would take most of a page's time.
    frames = b",".join(page.frames).decode()
    body = f'{json.dumps(document)[:-1]}, "imageFrames": [{frames}]}}'
    return HttpResponse(HTTPStatus.OK, _headers(index_tag(image_set, version_id), cache_control), body)


def index_not_modified_response(tag: str, cache_control: str) -> HttpResponse:
    """``304`` for a client that holds the page of this version, with the Content-Type of the 200."""
    return HttpResponse(HTTPStatus.NOT_MODIFIED, _headers(tag, cache_control))


def _headers(tag: str, cache_control: str) -> dict[str, str]:
    return {"Content-Type": JSON, "ETag": tag, "Cache-Control": cache_control}
