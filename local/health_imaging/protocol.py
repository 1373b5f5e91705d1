"""Implements the service's wire protocol, restJson1, from botocore's model of HealthImaging.

Routes, parameters, constraints and responses come from the model, so that an operation is one method that takes and
returns members by name. Where the model leaves a choice, this module follows Smithy's protocol tests for malformed
requests (smithy-lang/smithy, ``smithy-aws-protocol-tests/model/restJson1``).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qs, unquote

from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, StructureShape

from local.health_imaging import strict_json
from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from botocore.model import OperationModel, Shape

SERVICE = ServiceModel(Loader().load_service_model("medical-imaging", "service-2"), "medical-imaging")
"""botocore's model of the service."""

TIMESTAMP_DECIMALS = 3
"""Responses have timestamps in seconds since the epoch, with milliseconds."""

_JSON = "application/json"
_LABEL = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """An operation of the model, as the protocol uses it.

    Parameters
    ----------
    name : str
        The operation's name in the model, such as ``GetImageSet``.
    """

    name: str

    @cached_property
    def model(self) -> OperationModel:
        """The operation in botocore's model."""
        return SERVICE.operation_model(self.name)

    @property
    def python_name(self) -> str:
        """The operation's name as boto3 spells it, such as ``get_image_set``."""
        return xform_name(self.name)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.model.http["method"])

    @property
    def host_prefix(self) -> str:
        """The prefix of the operation's host: ``runtime-`` for operations on image sets, otherwise empty."""
        endpoint: Any = self.model.endpoint  # A dictionary or None, contrary to the type stubs.
        return str((endpoint or {}).get("hostPrefix", ""))

    @cached_property
    def path(self) -> re.Pattern[str]:
        """The pattern of the percent-encoded path, with a group for each label."""
        return re.compile(_LABEL.sub(r"(?P<\1>[^/]+)", self.model.http["requestUri"]))

    @cached_property
    def _input(self) -> StructureShape:
        return _structure(self.model.input_shape)

    @cached_property
    def _output(self) -> StructureShape:
        return _structure(self.model.output_shape)

    @cached_property
    def _body_members(self) -> dict[str, Shape]:
        """The members in the body; if the shape has a payload, only the payload."""
        shape = self._input
        payload = shape.serialization.get("payload")
        if payload is not None:
            return {payload: shape.members[payload]}
        return {name: member for name, member in shape.members.items() if "location" not in member.serialization}

    def check_body_type(self, content_type: str | None, content: bytes) -> None:
        """Reject a Content-Type that does not fit the request.

        Parameters
        ----------
        content_type : str or None
            The request's Content-Type.
        content : bytes
            The request's body.

        Raises
        ------
        ServiceError
            UnsupportedMediaTypeException if a body is not ``application/json``, if the operation takes no body, or if a
            Content-Type comes without a body (Smithy, ``malformed-content-type.smithy``).
        """
        if content_type is None and not content:
            return
        media_type = (content_type or "").partition(";")[0].strip().lower()
        if media_type != _JSON or not content or not self._body_members:
            expected = f"a body of type {_JSON}" if self._body_members else "neither a body nor a Content-Type"
            raise ServiceError("UnsupportedMediaTypeException", f"{self.name} takes {expected}")

    def parse(self, labels: Mapping[str, str], query: str, content: bytes) -> dict[str, Any]:
        """Read the members of a request, and validate them against the model.

        Timestamps become seconds since the epoch, and blobs become bytes. Absent and null members are left out.

        Parameters
        ----------
        labels : mapping
            The groups of `path`.
        query : str
            The query string.
        content : bytes
            The body.

        Raises
        ------
        ServiceError
            SerializationException if the body is not a JSON object; ValidationException if a member violates the model.
        """
        check = _Check()
        fields = parse_qs(query, keep_blank_values=True)
        members: dict[str, Any] = {}
        shape = self._input
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            wire_name = member.serialization.get("name", name)
            if location == "uri":
                members[name] = check.text(unquote(labels[wire_name]), member, name)
            elif location == "querystring" and wire_name in fields:
                members[name] = check.query(fields[wire_name], member, name)
        document = _document(content)
        if payload := shape.serialization.get("payload"):
            if content:
                members[payload] = check.value(document, shape.members[payload], payload)
        else:
            for name, member in self._body_members.items():
                if document.get(name) is not None:
                    members[name] = check.value(document[name], member, name)
        check.required(shape, members, "")
        check.raise_violations()
        return members

    def serialize(self, result: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
        """Serialize the result of an operation according to the model.

        Parameters
        ----------
        result : mapping
            The members of the output shape; None means absent.

        Returns
        -------
        body, headers
            The payload unchanged if the output shape has one, else JSON as bytes; and the headers by name.

        Raises
        ------
        ValueError
            If a member is not in the model, a required member is absent, or a value has the wrong type.
        """
        shape = self._output
        headers = {
            member.serialization["name"]: str(result[name])
            for name, member in shape.members.items()
            if member.serialization.get("location") == "header" and result.get(name) is not None
        }
        if payload := shape.serialization.get("payload"):
            return result[payload], headers
        return json.dumps(_serialized(result, shape, self.name), allow_nan=False).encode(), {
            "Content-Type": _JSON,
            **headers,
        }


def _structure(shape: StructureShape | None) -> StructureShape:
    """Check that a shape exists. botocore's models allow operations without one, but this service has none."""
    if shape is None:
        raise ValueError("The model has an operation without an input or output shape")
    return shape


def structure_members(name: str) -> set[str]:
    """The names of the members of one of the model's structures."""
    shape = SERVICE.shape_for(name)
    return set(shape.members) if isinstance(shape, StructureShape) else set()


class Routable(Protocol):
    """An operation that a router can find: its name, method, path and host prefix."""

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> re.Pattern[str]: ...
    @property
    def host_prefix(self) -> str: ...


_Other = TypeVar("_Other", bound=Routable)


class Router(Generic[_Other]):
    """Finds the operation of a request.

    Parameters
    ----------
    implementation : object
        Has a method for each implemented operation, with boto3's name for it.
    others : iterable of Routable
        Operations that the model does not have.
    """

    def __init__(self, implementation: object, others: Iterable[_Other] = ()) -> None:
        operations = [Operation(name) for name in SERVICE.operation_names]
        self.operations = [each for each in operations if hasattr(implementation, each.python_name)]
        self._all: list[Operation | _Other] = [*self.operations, *others]
        self._host_prefixes = {each.host_prefix for each in (*operations, *self._all)} - {""}

    def find(self, method: str, path: str, host: str = "") -> tuple[Operation | _Other, dict[str, str]]:
        """Find the operation at a percent-encoded path, and the path's labels.

        A host that starts with one of the host prefixes serves only the operations with that prefix. Any other
        host serves all operations, because clients of an emulator turn the prefix off.

        Raises
        ------
        ServiceError
            UnknownOperationException if there is no such operation (AWS, "Common errors").
        """
        prefix = next((each for each in self._host_prefixes if host.startswith(each)), None)
        for operation in self._all:
            if prefix not in (None, operation.host_prefix):
                continue
            if operation.method == method and (match := operation.path.fullmatch(path)):
                return operation, match.groupdict()
        raise ServiceError("UnknownOperationException", "The service has no operation at this path with this method")


def accepts(accept: str | None, media_type: str) -> bool:
    """Whether an Accept header allows a media type (RFC 9110, section 12.5.1).

    The most specific matching range decides. Parameters other than ``q`` are ignored.
    """
    if not (accept or "").strip():
        return True
    kind = media_type.partition(";")[0].strip().lower()
    specificities = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}
    fitting = []
    for each in (accept or "").split(","):
        media_range, *parameters = (part.strip().lower() for part in each.split(";"))
        if media_range in specificities:
            weights = [part.partition("=")[2].strip() for part in parameters if part.partition("=")[0].strip() == "q"]
            fitting.append((specificities[media_range], not _is_zero(weights)))
    return max(fitting, default=(0, False))[1]


def _is_zero(weights: list[str]) -> bool:
    return bool(weights) and re.fullmatch(r"0(\.0{0,3})?", weights[0]) is not None


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = strict_json.loads(content) if content else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServiceError("SerializationException", "The body is not a JSON object")
    return document


class _Check:
    """Converts values to the types of the model, and collects violations of its constraints.

    A value of the wrong type becomes None; call `raise_violations` before using any value.
    """

    def __init__(self) -> None:
        self._violations: list[str] = []

    def raise_violations(self) -> None:
        if self._violations:
            count = len(self._violations)
            problem = "; ".join(self._violations)
            raise ServiceError(
                "ValidationException", f"{count} validation error{'s' if count > 1 else ''} detected: {problem}"
            )

    def required(self, shape: StructureShape, members: Mapping[str, Any], path: str) -> None:
        for name in shape.required_members:
            if name not in members:
                self._violations.append(
                    f"Value at '{path}{name}' failed to satisfy constraint: Member must not be null"
                )

    def query(self, values: list[str], shape: Shape, path: str) -> Any:
        if isinstance(shape, ListShape):
            self._bounds(len(values), values, shape, path, "length")
            return [self.text(value, shape.member, f"{path}.{number}") for number, value in enumerate(values, 1)]
        return self.text(values[-1], shape, path)

    def text(self, value: str, shape: Shape, path: str) -> Any:
        """Convert a value from the URL."""
        if shape.type_name == "boolean":
            if value not in ("true", "false"):
                return self._violation(value, shape, path, "Member must be true or false")
            return value == "true"
        if shape.type_name == "integer":
            if not re.fullmatch(r"-?[0-9]{1,10}", value):
                return self._violation(value, shape, path, "Member must be an integer")
            return self.value(int(value), shape, path)
        return self.value(value, shape, path)

    def value(self, value: Any, shape: Shape, path: str) -> Any:
        """Convert a value from a JSON document."""
        read = getattr(self, f"_{shape.type_name}")
        return read(value, shape, path)

    def _structure(self, value: Any, shape: StructureShape, path: str) -> Any:
        if not isinstance(value, dict):
            return self._violation(value, shape, path, "Member must be an object")
        members = {
            name: self.value(value[name], member, f"{path}.{name}")
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
        if shape.is_tagged_union and len(members) != 1:
            self._violation(value, shape, path, f"Exactly one of {', '.join(shape.members)} must be given")
        self.required(shape, members, f"{path}.")
        return members

    def _list(self, value: Any, shape: ListShape, path: str) -> Any:
        if not isinstance(value, list):
            return self._violation(value, shape, path, "Member must be an array")
        self._bounds(len(value), value, shape, path, "length")
        return [self.value(each, shape.member, f"{path}.{number}") for number, each in enumerate(value, 1)]

    def _map(self, value: Any, shape: MapShape, path: str) -> Any:
        if not isinstance(value, dict):
            return self._violation(value, shape, path, "Member must be an object")
        self._bounds(len(value), value, shape, path, "size")
        return {
            self.value(key, shape.key, f"{path} (key)"): self.value(each, shape.value, f"{path}.{key}")
            for key, each in value.items()
            if each is not None
        }

    def _string(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, str):
            return self._violation(value, shape, path, "Member must be a string")
        self._bounds(len(value), value, shape, path, "length")
        enum = shape.metadata.get("enum")
        if enum and value not in enum:
            self._violation(value, shape, path, f"Member must satisfy enum value set: {', '.join(enum)}")
        pattern = shape.metadata.get("pattern")
        if pattern is not None and not _pattern(pattern).fullmatch(value):
            self._violation(value, shape, path, f"Member must satisfy regular expression pattern: {pattern}")
        return value

    def _boolean(self, value: Any, shape: Shape, path: str) -> Any:
        return value if isinstance(value, bool) else self._violation(value, shape, path, "Member must be a boolean")

    def _integer(self, value: Any, shape: Shape, path: str) -> Any:
        if type(value) is not int:
            return self._violation(value, shape, path, "Member must be an integer")
        self._bounds(value, value, shape, path, "value")
        return value

    def _timestamp(self, value: Any, shape: Shape, path: str) -> Any:
        if type(value) not in (int, float):
            return self._violation(value, shape, path, "Member must be a number of seconds since the epoch")
        return float(value)

    def _blob(self, value: Any, shape: Shape, path: str) -> Any:
        try:
            content = base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            return self._violation(value, shape, path, "Member must be encoded in base64")
        self._bounds(len(content), value, shape, path, "length")
        return content

    def _bounds(self, size: int, value: Any, shape: Shape, path: str, what: str) -> None:
        minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
        if minimum is not None and size < minimum:
            self._violation(value, shape, path, f"Member must have {what} greater than or equal to {minimum}")
        if maximum is not None and size > maximum:
            self._violation(value, shape, path, f"Member must have {what} less than or equal to {maximum}")

    def _violation(self, value: Any, shape: Shape, path: str, constraint: str) -> None:
        # Errors do not quote values that the model marks as sensitive, because they may identify a patient.
        shown = isinstance(value, str | int | float) and not shape.metadata.get("sensitive")
        quoted = f" '{str(value)[:64]}'" if shown else ""
        self._violations.append(f"Value{quoted} at '{path}' failed to satisfy constraint: {constraint}")


_patterns: dict[str, re.Pattern[str]] = {}


def _pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the model, which uses Java's syntax, with Python's `re`."""
    if pattern not in _patterns:
        _patterns[pattern] = re.compile(pattern.replace(r"\p{ASCII}", r"[\x00-\x7F]"), re.ASCII | re.DOTALL)
    return _patterns[pattern]


def _serialized(value: Any, shape: Shape, path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _serialized_structure(value, shape, path)
    if isinstance(shape, ListShape):
        return [_serialized(each, shape.member, path) for each in value]
    if isinstance(shape, MapShape):
        return {key: _serialized(each, shape.value, f"{path}.{key}") for key, each in value.items()}
    if shape.type_name == "timestamp":
        return round(float(value), TIMESTAMP_DECIMALS)
    types: dict[str, type] = {"string": str, "boolean": bool, "integer": int}
    if type(value) is not types[shape.type_name]:
        raise ValueError(f"{path} must be of type {shape.type_name}, not {type(value).__name__}")
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        raise ValueError(f"{path} must be one of {', '.join(enum)}")
    return value


def _serialized_structure(value: Mapping[str, Any], shape: StructureShape, path: str) -> dict[str, Any]:
    present = {name: each for name, each in value.items() if each is not None}
    _check_names(path, "unknown to the model", set(present) - set(shape.members))
    _check_names(path, "required by the model", set(shape.required_members) - set(present))
    return {
        shape.members[name].serialization.get("name", name): _serialized(each, shape.members[name], f"{path}.{name}")
        for name, each in present.items()
    }


def _check_names(path: str, problem: str, names: Iterable[str]) -> None:
    if names := sorted(names):
        raise ValueError(f"{path} has members that are {problem}: {', '.join(names)}")
