"""The CloudFormation stack: what one deployment of Framegate consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Stack, Tags

from infra.api_function import ApiFunction
from infra.frame_store import FrameStore
from infra.rest_api import RestApi

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


class FramegateStack(Stack):
    """Serves the frames of the configured data stores.

    Parameters
    ----------
    scope : Construct
        The CDK application.
    construct_id : str
        Its name there.
    config : Config
        What a user decides about it.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config) -> None:
        super().__init__(
            scope,
            construct_id,
            stack_name=config.stack_name,
            description="Framegate: image frames of AWS HealthImaging by URL",
        )
        frame_store = FrameStore(self, "FrameStore", config=config)
        function = ApiFunction(self, "ApiFunction", config=config, frame_store=frame_store)
        api = RestApi(self, "RestApi", config=config, handler=function.alias)
        CfnOutput(self, "ApiUrl", value=api.url, description="Base URL of the REST API")
        CfnOutput(
            self,
            "FrameBucketName",
            value=frame_store.bucket.bucket_name,
            description="Bucket that holds frames too large for an API response",
        )
        Tags.of(self).add("Application", "Framegate")
