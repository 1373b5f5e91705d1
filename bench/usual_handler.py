"""The usual handler, as a baseline: clients at module level, whole frame in memory, base64, no size limit."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="usual")
metrics = Metrics(namespace="Usual", service="usual")
tracer = Tracer(service="usual")
app = APIGatewayRestResolver()
health_imaging = boto3.client("medical-imaging")


@app.get("/datastore/<datastore_id>/imageSet/<image_set_id>/imageFrame/<image_frame_id>")
def get_image_frame(datastore_id: str, image_set_id: str, image_frame_id: str) -> Response[str]:
    """Get a frame, and return it in base64."""
    answer = health_imaging.get_image_frame(
        datastoreId=datastore_id,
        imageSetId=image_set_id,
        imageFrameInformation={"imageFrameId": image_frame_id},
    )
    content = answer["imageFrameBlob"].read()
    logger.info("frame delivered", extra={"bytes": len(content)})
    metrics.add_metric("Frames", MetricUnit.Count, 1)
    return Response(
        status_code=200,
        content_type=answer["contentType"],
        body=base64.b64encode(content).decode(),
        headers={"Access-Control-Allow-Origin": "*"},
    )


@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request of API Gateway's Lambda proxy integration."""
    result = app.resolve(event, context)
    result["isBase64Encoded"] = True
    return result
