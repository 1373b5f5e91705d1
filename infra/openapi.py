"""Generates the OpenAPI document of the REST API from the declared routes, limits and problems.

``make openapi`` writes it to ``docs/openapi.json``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from framegate import problems
from framegate.healthimaging import media_types
from framegate.identifiers import IDENTIFIER_PATTERN, MAX_UID_LENGTH
from framegate.jpeg2000.bounds import MAX_DECOMPOSITIONS
from framegate.rest.frame_responses import HEADERS
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.problem_documents import STATUS
from framegate.rest.routes import (
    MAX_NUMBER,
    MAX_PAGE_POSITION_LENGTH,
    MAX_PIXELS,
    MAX_RESULTS,
    PAGE_POSITION_PATTERN,
    ROUTES,
    UNSUPPORTED_ROUTES,
    Choice,
    Identifier,
    Integer,
    Operation,
    Parameter,
    ParameterType,
    Route,
    Text,
)
from infra.api.gateway_problems import GATEWAY_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http import HTTPStatus

Json = dict[str, Any]

PROBLEM_PREFIX = "urn:framegate:problem:"
EXAMPLE_ID = "0123456789abcdef0123456789abcdef"

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest whole number that every JSON parser represents exactly (RFC 8259, section 6)."""

MAX_URL_LENGTH = 8_192
"""Maximum characters of a pre-signed URL, most of which are the session token."""

MAX_RETRY_AFTER_SECONDS = 3_600

MAX_DATASETS = 1_000_000
"""Maximum number of instances whose metadata one response may have."""

_TAGS = {
    "Frame": "frames",
    "Index": "index",
    "Datasets": "dicomweb",
    "InstanceFrames": "dicomweb",
    "BulkData": "dicomweb",
    "Picture": "pictures",
    "DicomFiles": "dicomweb",
}

_RANGE_STATUSES = ("206", "416")
"""Statuses of range requests. RFC 9110, section 14.2, defines these for GET only."""


def _text(max_length: int, **more: Any) -> Json:
    return {"type": "string", "maxLength": max_length, **more}


def _whole_number(minimum: int, maximum: int, **more: Any) -> Json:
    # OpenAPI Specification 3.1.1, section 4.4, "Data Types".
    bits = 32 if minimum >= -(2**31) and maximum < 2**31 else 64
    return {"type": "integer", "format": f"int{bits}", "minimum": minimum, "maximum": maximum, **more}


def _or_null(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


_PORTION_SCHEMAS: dict[str, Json] = {
    "wholeFrame": {"type": "boolean", "description": "Whether the response has the whole frame."},
    "resolution": _whole_number(0, MAX_DECOMPOSITIONS, description="Number of the resolution; 0 is the base."),
    "resolutions": _whole_number(1, MAX_DECOMPOSITIONS + 1, description="Number of resolutions in the frame."),
    "rows": _whole_number(1, MAX_PIXELS, description="Height in pixels at that resolution."),
    "columns": _whole_number(1, MAX_PIXELS, description="Width in pixels at that resolution."),
    "skipDecompositions": _whole_number(
        0, MAX_DECOMPOSITIONS, description="Decompositions that an HTJ2K decoder must skip to get that resolution."
    ),
}


def routes_table() -> str:
    """Return the table of routes for the documentation, in Markdown."""
    rows = [
        f"| `{operation.method} {route.template}` | {operation.example} |"
        for route in ROUTES
        for operation in route.operations
        if operation.returns != "Nothing"
    ]
    return "\n".join(["| method and path | example |", "| --- | --- |", *rows])


def document() -> Json:
    """Return the document, OpenAPI 3.1.

    References
    ----------
    OpenAPI Specification 3.1.1; RFC 9457 for problems; RFC 9110 for everything else.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Framegate",
            "version": "1",
            "summary": "Image frames of AWS HealthImaging by URL",
            "description": "Every error is a problem document (RFC 9457). A deployment uses one of the two kinds of "
            "authorization.",
            "contact": {"name": "The operator of this deployment"},
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
            {"name": "frames", "description": "Deliver a frame or part of one."},
            {"name": "index", "description": "List the frames of an image set."},
            {"name": "pictures", "description": "Draw a frame as a JPEG, PNG, GIF or WebP picture."},
            {"name": "dicomweb", "description": "DICOMweb, with the paths of HealthImaging's own (DICOM PS3.18)."},
        ],
        # A description tells what clients can use, and an operation needs a success (OpenAPI 3.1.0, section 4.8.16).
        "paths": {route.template: _path_item(route) for route in ROUTES if route not in UNSUPPORTED_ROUTES},
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
                    "description": "A token of the user pool or OpenID Connect issuer that the deployment trusts, "
                    "validated as RFC8725 recommends.",
                },
            },
            "responses": _responses(),
            "schemas": _schemas(),
        },
    }


def _path_item(route: Route) -> Json:
    item: Json = {"parameters": [_parameter(each) for each in route.parameters]}
    for operation in route.operations:
        item[operation.method.lower()] = _operation(operation)
        if operation.method == "GET":
            item["head"] = _head(operation)
    return item


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.operation_id,
        "tags": [_TAGS[operation.returns]],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [_parameter(each) for each in operation.parameters],
        "responses": _references(operation.returns, _statuses(operation)),
    }
    if operation.takes_body:
        described["requestBody"] = _frame_request_body()
    return described


def _head(operation: Operation) -> Json:
    """Describe HEAD, which returns the headers of GET without a body, also for a problem."""
    described = _operation(operation)
    described["operationId"] += "Headers"
    described["summary"] += ", headers only"
    described["description"] = "Returns the headers of GET without a body. A range is ignored."
    described["parameters"] = [
        _parameter(each) for each in operation.parameters if each.name not in ("Range", "If-Range")
    ]
    described["responses"] = _references(
        f"{operation.returns}Head", (status for status in _statuses(operation) if status not in _RANGE_STATUSES)
    )
    return described


def _statuses(operation: Operation) -> list[str]:
    """The statuses of an operation's responses, API Gateway's own included."""
    successes = set(_SUCCESSES[operation.returns]())
    if problems.RangeNotSatisfiable not in operation.problems:
        successes.discard("206")
    if operation.method != "GET":
        successes.discard("304")
    return sorted(successes) + sorted(_problem_responses(operation.problems))


def _references(kind: str, statuses: Iterable[str]) -> Json:
    return {status: {"$ref": f"#/components/responses/{kind}{status}"} for status in statuses}


def _parameter(parameter: Parameter[ParameterType]) -> Json:
    described: Json = {"name": parameter.name, "in": parameter.location}
    if parameter.required:
        described["required"] = True
    return {
        **described,
        "description": parameter.description,
        "schema": _schema_of(parameter.type),
        "example": parameter.example,
    }


def _schema_of(type_: ParameterType) -> Json:
    match type_:
        case Integer(minimum, maximum):
            return _whole_number(minimum, maximum)
        case Choice(values):
            return {"type": "string", "enum": list(values)}
        case Text(max_length, None):
            return _text(max_length)
        case Text(max_length, pattern):
            return _text(max_length, pattern=f"^{pattern}$")
        case Identifier():
            return {"$ref": "#/components/schemas/Identifier"}


def _frame_request_body() -> Json:
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/FrameRequest"},
                "examples": {
                    "wire": {"summary": "As in HealthImaging's API", "value": {"imageFrameId": EXAMPLE_ID}},
                    "sdk": {
                        "summary": "As in its SDKs",
                        "value": {"imageFrameInformation": {"imageFrameId": EXAMPLE_ID}},
                    },
                },
            }
        },
    }


def _responses() -> Json:
    described: Json = {}
    for returns, successes in _SUCCESSES.items():
        responses = successes()
        causes = {
            problem: None
            for route in ROUTES
            for operation in route.operations
            if operation.returns == returns
            for problem in operation.problems
        }
        for status, response in {**responses, **_problem_responses(causes)}.items():
            described[f"{returns}{status}"] = response
            if status not in _RANGE_STATUSES:
                described[f"{returns}Head{status}"] = _without_content(response)
    return described


def _without_content(response: Json) -> Json:
    return {name: value for name, value in response.items() if name != "content"}


def _frame_successes() -> Json:
    as_it_is = dict.fromkeys([*sorted(set(media_types.STORED.values())), "*/*"], _bytes())
    portion = {HEADERS[name]: _optional_header(schema) for name, schema in _PORTION_SCHEMAS.items()}
    ranges = {"Accept-Ranges": _optional_header({"type": "string", "const": "bytes"})}
    return {
        "200": {
            "description": "The frame or the requested part of it: its bytes, or JSON with the bytes in base64 or with "
            "a pre-signed URL.",
            # Caches must not keep a pre-signed URL, so a response with one has no entity tag.
            "headers": {**_caching_headers(required=False), **ranges, **portion},
            "content": {**_json_content("Frame"), **as_it_is},
        },
        "202": {
            "description": "Storing the frame takes longer than a request may last. Send the request again later.",
            "headers": {"Retry-After": _header(_seconds())},
            "content": _json_content("FrameQueued"),
        },
        "206": {
            "description": "The requested range of bytes.",
            "headers": {
                **_caching_headers(),
                **ranges,
                **portion,
                "Content-Range": _header(_text(100, pattern=r"^bytes \d+-\d+/\d+$")),
            },
            "content": as_it_is,
        },
        "303": {
            "description": "A redirect to the frame's pre-signed URL.",
            "headers": {
                **portion,
                "Location": _header(_text(MAX_URL_LENGTH, format="uri")),
                "Cache-Control": _header({"type": "string", "const": "no-store"}),
            },
        },
        "304": {"description": "The client holds the frame.", "headers": _caching_headers()},
    }


def _index_successes() -> Json:
    return {
        "200": {
            "description": "A page of the index.",
            "headers": _caching_headers(),
            "content": _json_content("FrameIndex"),
        },
        "304": {"description": "The client holds the page.", "headers": _caching_headers()},
    }


def _instance_frames_successes() -> Json:
    types = ["multipart/related", *sorted({*media_types.STORED.values(), "image/jhc", "image/jp2"}), "*/*"]
    body = dict.fromkeys(types, _bytes())
    by_id = _frame_successes()
    return {
        "200": {
            **by_id["200"],
            "description": "The frames, in the form that the client accepts.",
            "headers": {**by_id["200"]["headers"], **_caching_headers()},
            "content": body,
        },
        "206": {**by_id["206"], "content": body},
        "303": {**by_id["303"], "description": "A redirect to the frame, or to a multipart body with the frames."},
        "304": {"description": "The client holds the frames.", "headers": _caching_headers()},
    }


def _dataset_successes() -> Json:
    schema = {"schema": {"$ref": "#/components/schemas/Datasets"}}
    return {
        "200": {
            "description": "An array of datasets in DICOM JSON.",
            # A search has no entity tag.
            "headers": {
                **_caching_headers(required=False),
                "Content-Encoding": _optional_header({"type": "string", "const": "gzip"}),
            },
            "content": {"application/dicom+json": schema, "application/json": schema},
        },
        "303": {
            "description": "A redirect to metadata that is too large for a response.",
            "headers": {
                "Location": _header(_text(MAX_URL_LENGTH, format="uri")),
                "Cache-Control": _header({"type": "string", "const": "no-store"}),
            },
        },
        "304": {"description": "The client holds the metadata.", "headers": _caching_headers()},
    }


def _bulk_data_successes() -> Json:
    redirect = _dataset_successes()["303"]
    return {
        "200": {
            "description": "The value.",
            "headers": {"Cache-Control": _header(_text(100))},
            "content": dict.fromkeys(["multipart/related", "application/octet-stream", "*/*"], _bytes()),
        },
        "303": {**redirect, "description": "A redirect to a value that is too large for a response."},
    }


def _picture_successes() -> Json:
    return {
        "200": {
            "description": "The picture.",
            "headers": _caching_headers(),
            "content": dict.fromkeys(["image/jpeg", "image/png", "image/gif", "image/webp"], _bytes()),
        },
        "303": {
            **_dataset_successes()["303"],
            "description": "A redirect to a picture that is too large for a response.",
        },
        "304": {"description": "The client holds the picture.", "headers": _caching_headers()},
    }


def _dicom_file_successes() -> Json:
    redirect = _dataset_successes()["303"]
    return {
        "200": {
            "description": "DICOM files.",
            "headers": _caching_headers(),
            "content": dict.fromkeys(["multipart/related", "application/dicom", "*/*"], _bytes()),
        },
        "303": {**redirect, "description": "A redirect to files that are too large for a response."},
        "304": {"description": "The client holds the files.", "headers": _caching_headers()},
    }


_SUCCESSES = {
    "Frame": _frame_successes,
    "Index": _index_successes,
    "Datasets": _dataset_successes,
    "InstanceFrames": _instance_frames_successes,
    "BulkData": _bulk_data_successes,
    "Picture": _picture_successes,
    "DicomFiles": _dicom_file_successes,
}
"""The successful responses of everything that an operation can return."""


def _bytes() -> Json:
    return {"schema": _text(INLINE_LIMIT, format="binary")}


def _json_content(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _caching_headers(*, required: bool = True) -> Json:
    return {
        "ETag": {**_header(_text(512)), "required": required},
        "Cache-Control": _header(_text(100)),
    }


def _seconds() -> Json:
    return _whole_number(0, MAX_RETRY_AFTER_SECONDS, description="Seconds to wait before the next request.")


def _header(schema: Json) -> Json:
    return {"required": True, "schema": schema}


def _optional_header(schema: Json) -> Json:
    return {"required": False, "schema": schema}


def _problem_responses(causes: Iterable[type[problems.Problem]]) -> Json:
    """Return a response for each status with its problems, API Gateway's own included."""
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
        # API Gateway's own response to an exhausted quota has no Retry-After.
        response["headers"] = {"Retry-After": _optional_header(_seconds())}
    if status == _status_of(problems.FramePending):
        response["headers"] = {"Retry-After": _optional_header(_seconds())}
    if status == _status_of(problems.RangeNotSatisfiable):
        response["headers"] = {"Content-Range": _header(_text(100, pattern=r"^bytes \*/\d+$"))}
    return response


def _schemas() -> Json:
    identifier = {"$ref": "#/components/schemas/Identifier"}
    media_type = _text(media_types.MAX_CHARS)
    frame: Json = {
        "datastoreId": identifier,
        "imageSetId": identifier,
        "imageFrameId": identifier,
        "contentType": {**media_type, "description": "Media type of the frame."},
        "contentLength": _whole_number(0, MAX_SAFE_INTEGER, description="Bytes of the content."),
        **_PORTION_SCHEMAS,
    }
    always = ["datastoreId", "imageSetId", "imageFrameId", "contentType", "contentLength"]
    blob = _text((INLINE_LIMIT + 2) // 3 * 4, contentEncoding="base64", description="The bytes.")
    by_id = _object({"imageFrameId": identifier}, is_closed=False)
    uid = _or_null(_text(MAX_UID_LENGTH))
    return {
        "Identifier": _text(32, pattern=f"^{IDENTIFIER_PATTERN}$", examples=[EXAMPLE_ID]),
        "FrameRequest": {
            "oneOf": [
                {"$ref": "#/components/schemas/FrameRequestById"},
                {"$ref": "#/components/schemas/FrameRequestByInformation"},
            ],
        },
        "FrameRequestById": by_id,
        "FrameRequestByInformation": _object(
            {"imageFrameInformation": {"$ref": "#/components/schemas/ImageFrameInformation"}}, is_closed=False
        ),
        "ImageFrameInformation": by_id,
        "Frame": {
            "oneOf": [
                {"$ref": "#/components/schemas/InlineFrame"},
                {"$ref": "#/components/schemas/LinkedFrame"},
            ]
        },
        "InlineFrame": _object({**frame, "imageFrameBlob": blob}, [*always, "imageFrameBlob"]),
        "LinkedFrame": _object(
            {**frame, "url": _text(MAX_URL_LENGTH, format="uri"), "expiresAt": _text(30, format="date-time")},
            [*always, "url", "expiresAt"],
        ),
        "FrameQueued": _object(
            {
                "type": {"type": "string", "const": "urn:framegate:frame-queued"},
                "title": _text(100),
                "status": _whole_number(202, 202),
                "detail": _text(1_000),
                "requestId": _text(100),
            }
        ),
        "FrameIndex": _object(
            {
                "datastoreId": identifier,
                "imageSetId": identifier,
                "versionId": _text(10, pattern="^[0-9]{1,10}$"),
                "imageFrames": {
                    "type": "array",
                    "maxItems": MAX_RESULTS,
                    "items": {"$ref": "#/components/schemas/FrameIndexEntry"},
                },
                "nextToken": _text(
                    MAX_PAGE_POSITION_LENGTH,
                    pattern=f"^{PAGE_POSITION_PATTERN}$",
                    description="The token of the next page; the last page has none.",
                ),
            },
            ["datastoreId", "imageSetId", "versionId", "imageFrames"],
        ),
        "FrameIndexEntry": _object(
            {
                "sopInstanceUID": uid,
                "frameNumber": _or_null(_whole_number(1, MAX_NUMBER)),
                "imageFrameId": identifier,
                "storedTransferSyntaxUID": uid,
                "contentType": media_type,
                "contentLength": _or_null(_whole_number(0, MAX_SAFE_INTEGER)),
                "rows": _or_null(_whole_number(1, MAX_PIXELS)),
                "columns": _or_null(_whole_number(1, MAX_PIXELS)),
                "resolutions": _or_null(_whole_number(1, MAX_DECOMPOSITIONS + 1)),
            }
        ),
        "Datasets": {"type": "array", "maxItems": MAX_DATASETS, "items": {"$ref": "#/components/schemas/Dataset"}},
        "Dataset": _object(
            {}, is_closed=False, description="A dataset in the DICOM JSON model (DICOM PS3.18, annex F), by tag."
        ),
        "Problem": _object(
            {
                "type": _text(100, pattern=f"^{PROBLEM_PREFIX}[a-z-]+$"),
                "title": _text(100),
                "status": _whole_number(400, 599),
                "detail": _text(1_000),
                "requestId": _text(100),
            },
            is_closed=False,
            description="RFC 9457, with the id by which the operator finds the request in the logs.",
        ),
    }


def _object(properties: Json, required: list[str] | None = None, *, is_closed: bool = True, **more: Any) -> Json:
    described = {
        "type": "object",
        **more,
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return {**described, "additionalProperties": False} if is_closed else described


if __name__ == "__main__":
    print(json.dumps(document(), indent=2))
