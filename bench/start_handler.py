"""A handler that only starts: the minimum of a cold start with the SDK's signer and Powertools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.session
from aws_lambda_powertools import Logger, Metrics
from botocore.auth import SigV4Auth

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="start")
metrics = Metrics(namespace="Start", service="start")
session = botocore.session.get_session()
credentials = session.get_credentials()


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer without a call of HealthImaging."""
    assert credentials
    SigV4Auth(credentials, "medical-imaging", "us-east-1")
    return {"statusCode": 200, "body": ""}
