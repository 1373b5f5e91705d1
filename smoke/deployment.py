"""Describes the deployment under test, from its stack, and makes AWS clients for its account."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from requests import Session

from framegate.healthimaging.regions import REGIONS
from local.signing import SigV4
from smoke.report import CheckFailedError

HEALTH_IMAGING = "medical-imaging"

EMULATED = any(name.startswith("AWS_ENDPOINT_URL") for name in os.environ)
"""Whether an emulated cloud replaces AWS. Some checks do not apply there."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame to request, and HealthImaging's own response.

    Attributes
    ----------
    datastore_id, image_set_id, image_frame_id : str
        HealthImaging's identifiers.
    content : bytes
        The frame, as ``GetImageFrame`` returns it.
    content_type : str
        Its media type, as ``GetImageFrame`` returns it.
    """

    datastore_id: str
    image_set_id: str
    image_frame_id: str
    content: bytes
    content_type: str


class Deployment:
    """A deployed stack.

    Parameters
    ----------
    stack_name : str
        Name of the CloudFormation stack.
    token : str or None
        The bearer token for the API, if ``auth`` is ``jwt`` or ``cognito``.
    api_url : str or None
        Base URL of the API, if it differs from the stack's ``ApiUrl``.
    """

    def __init__(self, stack_name: str, token: str | None = None, api_url: str | None = None) -> None:
        self.stack_name = stack_name
        self._token = token
        self._api_url = api_url
        self._session = boto3.Session()

    @property
    def region(self) -> str:
        """The configured Region; empty if there is none."""
        return self._session.region_name or ""

    def client(self, service: str) -> Any:
        """Make a client for a service in the configured Region."""
        options: dict[str, Any] = {"retries": {"mode": "standard", "total_max_attempts": 3}}
        if service == "s3":
            options["signature_version"] = "s3v4"
        return self._session.client(service, config=Config(**options))  # type: ignore[call-overload]

    def require_health_imaging(self) -> str:
        """Check that the Region has HealthImaging; return its endpoint.

        Raises
        ------
        CheckFailedError
            If the Region has no HealthImaging.
        """
        client = self.client(HEALTH_IMAGING)
        try:
            client.list_datastores(maxResults=1)
        except EndpointConnectionError:
            regions = ", ".join(REGIONS)
            raise CheckFailedError(
                f"HealthImaging has no endpoint in {self.region}. It is available in {regions}. "
                "Deploy Framegate in the Region of the data stores."
            ) from None
        return str(client.meta.endpoint_url)

    @cached_property
    def stack(self) -> dict[str, Any]:
        """The stack's description.

        Raises
        ------
        CheckFailedError
            If there is no such stack.
        """
        try:
            return dict(self.client("cloudformation").describe_stacks(StackName=self.stack_name)["Stacks"][0])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                raise CheckFailedError(
                    f"there is no stack {self.stack_name} in {self.region}; name yours with stack=…"
                ) from None
            raise

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by name."""
        return {each["OutputKey"]: each["OutputValue"] for each in self.stack.get("Outputs", [])}

    @cached_property
    def resources(self) -> dict[str, tuple[str, str]]:
        """Type and physical id of the stack's resources, by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack_name)
        return {
            each["LogicalResourceId"]: (each["ResourceType"], each.get("PhysicalResourceId", ""))
            for page in pages
            for each in page["StackResourceSummaries"]
        }

    def resource(self, resource_type: str, logical_id_prefix: str) -> str:
        """The physical id of the only resource with this type and this prefix of its logical id."""
        found = [
            physical
            for logical, (kind, physical) in self.resources.items()
            if kind == resource_type and logical.startswith(logical_id_prefix)
        ]
        if len(found) != 1:
            raise CheckFailedError(
                f"the stack has {len(found)} resources {logical_id_prefix}… of type {resource_type}, not one"
            )
        return found[0]

    @property
    def datastore_ids(self) -> list[str]:
        """The data stores that the stack serves."""
        return self.outputs["DatastoreIds"].split(",")

    @property
    def bucket(self) -> str:
        """The bucket with frames, manifests and requests."""
        return self.outputs["FrameBucketName"]

    @property
    def auth(self) -> str:
        """How the API authorizes callers: ``iam``, ``cognito`` or ``jwt``."""
        return self.outputs["Auth"]

    @property
    def api_url(self) -> str:
        """The base URL of the API, without a trailing slash."""
        return (self._api_url or self.outputs["ApiUrl"]).rstrip("/")

    def http(self) -> Session:
        """Make an HTTP session with credentials for the API.

        Raises
        ------
        CheckFailedError
            If there are no AWS credentials, or the API needs a token and none was given.
        """
        session = Session()
        if self.auth == "iam":
            credentials = self._session.get_credentials()
            if credentials is None:
                raise CheckFailedError("there are no AWS credentials to sign requests with")
            frozen = credentials.get_frozen_credentials()
            session.auth = SigV4(str(frozen.access_key), str(frozen.secret_key), self.region, frozen.token)
        elif self._token:
            session.headers["Authorization"] = f"Bearer {self._token}"
        else:
            raise CheckFailedError(f"auth is {self.auth}: set FRAMEGATE_TOKEN to a token that the API accepts")
        return session

    def reference(self, datastore_id: str, image_set_id: str, image_frame_id: str) -> Frame:
        """Get a frame from HealthImaging itself, to compare with."""
        answer = self.client(HEALTH_IMAGING).get_image_frame(
            datastoreId=datastore_id,
            imageSetId=image_set_id,
            imageFrameInformation={"imageFrameId": image_frame_id},
        )
        return Frame(
            datastore_id,
            image_set_id,
            image_frame_id,
            answer["imageFrameBlob"].read(),
            answer.get("contentType", "application/octet-stream"),
        )
