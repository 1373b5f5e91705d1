"""The OpenAPI document of the REST API, made from the code's own routes, limits and problems.

``make openapi`` writes it to ``docs/openapi.json``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from framegate import problems
from framegate.healthimaging import media_types
from framegate.jpeg2000.codestream import MOST_DECOMPOSITIONS
from framegate.rest.frame_api import FRAME_ROUTE, GET_IMAGE_FRAME_ROUTE, INDEX_ROUTE
from framegate.rest.frame_responses import HEADERS
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.parameters import (
    LARGEST_NUMBER,
    LARGEST_SIZE,
    MOST_FRAMES,
    MOST_LEVELS,
    PAGE_POSITION,
    UID,
)
from framegate.rest.problem_documents import STATUS
from infra.gateway_problems import GATEWAY_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http import HTTPStatus

Json = dict[str, Any]

PROBLEM_PREFIX = "urn:framegate:problem:"
EXAMPLE_ID = "0123456789abcdef0123456789abcdef"

# What can go wrong with every request that reaches the function.
_ANY_REQUEST = (
    problems.InvalidRequest,
    problems.InvalidIdentifier,
    problems.UpstreamRejected,
    problems.TokenExpired,
    problems.DatastoreNotServed,
    problems.DatastoreNotGranted,
    problems.AccessDenied,
    problems.FrameConflict,
    problems.Throttled,
    problems.InternalError,
    problems.UpstreamFailed,
    problems.UpstreamRefused,
    problems.UpstreamTimeout,
)
_FRAME = (
    *_ANY_REQUEST,
    problems.FrameNotFound,
    problems.NotAcceptable,
    problems.FrameTooLarge,
    problems.RangeNotSatisfiable,
)
_INDEX = (*_ANY_REQUEST, problems.ImageSetNotFound, problems.VersionNotFound)

_PORTION_SCHEMAS: dict[str, Json] = {
    "wholeFrame": {"type": "boolean", "description": "Whether it is all of the frame."},
    "resolution": {"type": "integer", "minimum": 0, "description": "Number of the resolution, 0 the base."},
    "resolutions": {"type": "integer", "minimum": 1, "description": "How many the frame is stored with."},
    "rows": {"type": "integer", "minimum": 1, "description": "Pixels down, at that resolution."},
    "columns": {"type": "integer", "minimum": 1, "description": "Pixels across, at that resolution."},
    "skipDecompositions": {"type": "integer", "minimum": 0, "description": "What a decoder of HTJ2K is told to skip."},
}


def document() -> Json:
    """Return the document, OpenAPI 3.1.

    References
    ----------
    OpenAPI Specification 3.1.1; RFC 9457 for problems, RFC 9110 for all else of HTTP.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Framegate",
            "version": "1",
            "summary": "Image frames of AWS HealthImaging by URL",
            "description": "Every error is a problem document (RFC 9457). A deployment takes one of the two kinds of "
            "authorization.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com/v1",
                "variables": {"api": {"default": "abcdefghij"}, "region": {"default": "us-east-1"}},
            }
        ],
        "security": [{"sigv4": []}, {"bearer": []}],
        "tags": [
            {"name": "frames", "description": "A frame, or a part of one."},
            {"name": "index", "description": "What there is to fetch."},
        ],
        "paths": {
            FRAME_ROUTE: _path("imageFrameId", get=_frame_operation("getImageFrameByPath", "by its path")),
            GET_IMAGE_FRAME_ROUTE: _path(
                get=_frame_operation("getImageFrameByQuery", "by its id in the query", [_image_frame_id("query")]),
                post=_posted(_frame_operation("getImageFrame", "by its id in the body, as HealthImaging has it")),
            ),
            INDEX_ROUTE: _path(get=_index_operation()),
        },
        "components": {
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4 for the service execute-api.",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                },
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of the user pool or OpenID Connect issuer that the deployment trusts.",
                },
            },
            "responses": {
                f"{kind}{status}": response
                for kind, responses in (("Frame", _frame_responses()), ("Index", _index_responses()))
                for status, response in responses.items()
            },
            "schemas": _schemas(),
        },
    }


def _path(*more_parameters: str, **operations: Json) -> Json:
    names = ("datastoreId", "imageSetId", *more_parameters)
    return {"parameters": [_identifier(name, "path") for name in names], **operations}


def _identifier(name: str, where: str) -> Json:
    return {
        "name": name,
        "in": where,
        "required": True,
        "description": "HealthImaging's identifier.",
        "schema": {"$ref": "#/components/schemas/Identifier"},
        "example": EXAMPLE_ID,
    }


def _image_frame_id(where: str) -> Json:
    return _identifier("imageFrameId", where)


def _frame_operation(operation_id: str, how: str, parameters: Iterable[Json] = ()) -> Json:
    return {
        "operationId": operation_id,
        "tags": ["frames"],
        "summary": f"A frame, {how}",
        "description": f"Up to {INLINE_LIMIT:,} bytes in the answer, above that by a pre-signed URL; in JSON where the "
        "request's Accept header names it. With `size`, `resolution` or levels, a part of a frame in HTJ2K.",
        "parameters": [*parameters, *_frame_parameters(), *_frame_headers()],
        "responses": _named("Frame", _frame_responses()),
    }


def _posted(operation: Json) -> Json:
    operation["parameters"] = [each for each in operation["parameters"] if each["name"] not in ("Range", "If-Range")]
    del operation["responses"]["206"], operation["responses"]["416"]
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/FrameRequest"},
                "examples": {
                    "wire": {"summary": "On HealthImaging's wire", "value": {"imageFrameId": EXAMPLE_ID}},
                    "sdk": {
                        "summary": "As its SDKs have it",
                        "value": {"imageFrameInformation": {"imageFrameId": EXAMPLE_ID}},
                    },
                },
            }
        },
    }
    return operation


def _frame_parameters() -> list[Json]:
    return [
        _query(
            "delivery",
            {"type": "string", "enum": ["inline", "url"]},
            "In the answer or by URL, whatever the size; without it, the size decides.",
            "url",
        ),
        _query(
            "size",
            _whole_number(1, LARGEST_SIZE),
            "The smallest stored resolution whose longer side has at least so many pixels.",
            128,
        ),
        _query(
            "resolution",
            _whole_number(0, MOST_DECOMPOSITIONS),
            "The stored resolution with that number; 0 is the base. Excludes `size`.",
            0,
        ),
        _query(
            "startLevel",
            _whole_number(0, MOST_LEVELS),
            "The bytes from that level on. Excludes `size` and `resolution`.",
            0,
        ),
        _query("endLevel", _whole_number(0, MOST_LEVELS), "The bytes up to that level, not below `startLevel`.", 1),
    ]


def _frame_headers() -> list[Json]:
    return [
        _header_parameter("If-None-Match", "Entity tags that the client holds: then the answer is 304.", '"f1"'),
        _header_parameter("Range", "One range of bytes (RFC 9110, section 14); what is none is ignored.", "bytes=0-99"),
        _header_parameter("If-Range", "The range counts only if this is still the entity tag.", '"f1"'),
    ]


def _index_operation() -> Json:
    return {
        "operationId": "listImageFrames",
        "tags": ["index"],
        "summary": "The frames of an image set",
        "description": "Page by page, with nothing of patient, study or series.",
        "parameters": [
            _query("versionId", _whole_number(1, LARGEST_NUMBER), "Version of the image set; else the latest.", 1),
            _query(
                "sopInstanceUID",
                {"type": "string", "pattern": f"^{UID}$"},
                "Only frames of that DICOM instance.",
                "1.2.826.0.1.3680043.2.1143",
            ),
            _query("frameNumber", _whole_number(1, LARGEST_NUMBER), "Only frames with that number, from 1.", 1),
            _query("maxResults", _whole_number(1, MOST_FRAMES), "How many frames at the most.", MOST_FRAMES),
            _query(
                "nextToken",
                {"type": "string", "pattern": f"^{PAGE_POSITION}$"},
                "As the page before has it, for the same image set and version.",
                "1-28400",
            ),
            _header_parameter("If-None-Match", "Entity tags that the client holds: then the answer is 304.", '"v1"'),
        ],
        "responses": _named("Index", _index_responses()),
    }


def _query(name: str, schema: Json, description: str, example: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema, "example": example}


def _header_parameter(name: str, description: str, example: str) -> Json:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}


def _whole_number(low: int, high: int) -> Json:
    return {"type": "integer", "minimum": low, "maximum": high}


def _frame_responses() -> Json:
    as_it_is = dict.fromkeys([*sorted(set(media_types.STORED.values())), "*/*"], _bytes())
    portion = {HEADERS[name]: _optional_header(schema) for name, schema in _PORTION_SCHEMAS.items()}
    ranges = {"Accept-Ranges": _optional_header({"type": "string", "const": "bytes"})}
    return {
        "200": {
            "description": "The frame, or the part of it that was asked for: its bytes, or JSON with them in base64 or "
            "with a pre-signed URL.",
            # A pre-signed URL is not to be kept, so that answer has no entity tag.
            "headers": {**_caching_headers(required=False), **ranges, **portion},
            "content": {**_json_content("Frame"), **as_it_is},
        },
        "202": {
            "description": "Storing the frame takes longer than a request lasts: ask again.",
            "headers": {"Retry-After": _header({"type": "integer", "description": "Seconds until then."})},
            "content": _json_content("FrameQueued"),
        },
        "206": {
            "description": "The range of bytes that was asked for.",
            "headers": {
                **_caching_headers(),
                **ranges,
                **portion,
                "Content-Range": _header({"type": "string", "pattern": r"^bytes \d+-\d+/\d+$"}),
            },
            "content": as_it_is,
        },
        "303": {
            "description": "The frame is at a pre-signed URL.",
            "headers": {
                **portion,
                "Location": _header({"type": "string", "format": "uri"}),
                "Cache-Control": _header({"type": "string", "const": "no-store"}),
            },
        },
        "304": {"description": "The client holds the frame.", "headers": _caching_headers()},
        **_problem_responses(_FRAME),
    }


def _index_responses() -> Json:
    return {
        "200": {
            "description": "A page of the index.",
            "headers": _caching_headers(),
            "content": _json_content("FrameIndex"),
        },
        "304": {"description": "The client holds the page.", "headers": _caching_headers()},
        **_problem_responses(_INDEX),
    }


def _named(kind: str, responses: Json) -> Json:
    """Return references to responses, by status, in the place of the responses."""
    return {status: {"$ref": f"#/components/responses/{kind}{status}"} for status in responses}


def _bytes() -> Json:
    return {"schema": {"type": "string", "format": "binary"}}


def _json_content(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _caching_headers(*, required: bool = True) -> Json:
    return {
        "ETag": {**_header({"type": "string"}), "required": required},
        "Cache-Control": _header({"type": "string"}),
    }


def _header(schema: Json) -> Json:
    return {"required": True, "schema": schema}


def _optional_header(schema: Json) -> Json:
    return {"required": False, "schema": schema}


def _problem_responses(causes: Iterable[type[problems.Problem]]) -> Json:
    """Return a response for each status, with the problems that have it, API Gateway's own included."""
    titles: dict[int, dict[str, str]] = {}
    for problem in causes:
        titles.setdefault(int(_status_of(problem)), {})[problem.slug] = problem.title
    for gateway in GATEWAY_PROBLEMS:
        if gateway.status is not None and gateway.response_type != "RESOURCE_NOT_FOUND":
            titles.setdefault(gateway.status, {}).setdefault(gateway.slug, gateway.title)
    return {str(status): _problem_response(status, titles[status]) for status in sorted(titles)}


def _status_of(problem: type[problems.Problem]) -> HTTPStatus:
    return STATUS[problem]


def _problem_response(status: int, titles: dict[str, str]) -> Json:
    types = [PROBLEM_PREFIX + slug for slug in titles]
    response: Json = {
        "description": "; ".join(dict.fromkeys(titles.values())) + ".",
        "content": {
            "application/problem+json": {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}],
                    "properties": {"type": {"enum": types}, "status": {"const": status}},
                }
            }
        },
    }
    if status == _status_of(problems.Throttled):
        # API Gateway's own answer to a used-up quota has none.
        response["headers"] = {"Retry-After": _optional_header({"type": "integer", "description": "Seconds."})}
    if status == _status_of(problems.RangeNotSatisfiable):
        response["headers"] = {"Content-Range": _header({"type": "string", "pattern": r"^bytes \*/\d+$"})}
    return response


def _schemas() -> Json:
    identifier = {"$ref": "#/components/schemas/Identifier"}
    uri = {"type": "string", "format": "uri"}
    frame: Json = {
        "datastoreId": identifier,
        "imageSetId": identifier,
        "imageFrameId": identifier,
        "contentType": {"type": "string", "description": "The frame's media type."},
        "contentLength": {"type": "integer", "minimum": 0, "description": "Bytes of what came."},
        **_PORTION_SCHEMAS,
    }
    always = ["datastoreId", "imageSetId", "imageFrameId", "contentType", "contentLength"]
    blob = {"type": "string", "contentEncoding": "base64", "description": "The bytes."}
    return {
        "Identifier": {"type": "string", "pattern": "^[0-9a-z]{32}$", "examples": [EXAMPLE_ID]},
        "FrameRequest": {
            "type": "object",
            "oneOf": [
                {"required": ["imageFrameId"], "properties": {"imageFrameId": identifier}},
                {
                    "required": ["imageFrameInformation"],
                    "properties": {
                        "imageFrameInformation": {
                            "type": "object",
                            "required": ["imageFrameId"],
                            "properties": {"imageFrameId": identifier},
                        }
                    },
                },
            ],
        },
        "Frame": {
            "oneOf": [
                _object({**frame, "imageFrameBlob": blob}, [*always, "imageFrameBlob"]),
                _object(
                    {**frame, "url": uri, "expiresAt": {"type": "string", "format": "date-time"}},
                    [*always, "url", "expiresAt"],
                ),
            ]
        },
        "FrameQueued": _object(
            {
                "type": {"const": "urn:framegate:frame-queued"},
                "title": {"type": "string"},
                "status": {"const": 202},
                "detail": {"type": "string"},
                "requestId": {"type": "string"},
            }
        ),
        "FrameIndex": _object(
            {
                "datastoreId": identifier,
                "imageSetId": identifier,
                "versionId": {"type": "string", "pattern": "^[0-9]+$"},
                "imageFrames": {"type": "array", "items": {"$ref": "#/components/schemas/FrameIndexEntry"}},
                "nextToken": {"type": "string", "description": "Of the next page; none, where there is none."},
            },
            ["datastoreId", "imageSetId", "versionId", "imageFrames"],
        ),
        "FrameIndexEntry": _object(
            {
                "sopInstanceUID": {"type": ["string", "null"]},
                "frameNumber": {"type": ["integer", "null"], "minimum": 1},
                "imageFrameId": {"type": "string"},
                "storedTransferSyntaxUID": {"type": ["string", "null"]},
                "contentType": {"type": "string"},
                "contentLength": {"type": ["integer", "null"], "minimum": 0},
                "rows": {"type": ["integer", "null"], "minimum": 1},
                "columns": {"type": ["integer", "null"], "minimum": 1},
                "resolutions": {"type": ["integer", "null"], "minimum": 1},
            }
        ),
        "Problem": {
            "type": "object",
            "description": "RFC 9457, and the id by which the operator finds the request.",
            "properties": {
                "type": {"type": "string", "pattern": f"^{PROBLEM_PREFIX}[a-z-]+$"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "requestId": {"type": "string"},
            },
            "required": ["type", "title", "status", "detail", "requestId"],
        },
    }


def _object(properties: Json, required: list[str] | None = None) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=2))
