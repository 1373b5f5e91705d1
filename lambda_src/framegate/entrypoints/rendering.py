"""The function that draws pictures of frames."""

from __future__ import annotations

# ruff: noqa: E402 - the certificates are loaded while the other modules are imported
from framegate.aws import clients
from framegate.aws.trust import load_early

_CERTIFICATES = load_early(clients.session())

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from framegate.access.decision import DecisionFunction
from framegate.access.image_sets import ImageSetAccess
from framegate.aws.lambda_runtime import install_marshaller
from framegate.healthimaging.client import HealthImaging
from framegate.index.frame_index import FrameIndex
from framegate.observability import count_cold_start, tracer
from framegate.rendering.drawing_process import DrawingProcess
from framegate.rest.http_api import HttpApi
from framegate.rest.rendered import PictureHandlers
from framegate.rest.routes import PICTURE_ROUTES
from framegate.settings import CHANGEABLE_CACHE_CONTROL, Settings, is_snapshot_start
from framegate.storage.body_store import BodyStore
from framegate.storage.object_store import ObjectStore
from framegate.storage.object_writer import CLEANUP_SECONDS

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVED_SECONDS = CLEANUP_SECONDS + 1.0
"""Seconds of an invocation that are reserved for cleaning up and answering."""

_HAS_MARSHALLER = install_marshaller()


@cache
def _api() -> HttpApi:
    settings = Settings.from_environment()
    threads = ThreadPoolExecutor(clients.S3_CONNECTIONS, thread_name_prefix="s3")
    objects = ObjectStore(clients.session(), clients.s3, settings.frame_bucket, threads, clients.S3_CONNECTIONS)
    source = HealthImaging(clients.session())
    index = FrameIndex(source, objects)
    access = ImageSetAccess(settings.datastore_ids, index, DecisionFunction.of_settings(clients.session(), settings))
    bodies = BodyStore(objects, CHANGEABLE_CACHE_CONTROL[settings.frame_caching])
    handlers = PictureHandlers.build(settings, access, index, source, objects, bodies, DrawingProcess())
    return HttpApi(settings, PICTURE_ROUTES, handlers.by_operation, RESERVED_SECONDS, base64_apart=_HAS_MARSHALLER)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request of API Gateway's Lambda proxy integration (payload format 1.0)."""
    count_cold_start("rendering")
    return _api().answer(event, context.get_remaining_time_in_millis())


if is_snapshot_start():
    # Loading costs no request any time before the snapshot. The process that draws starts with the first request.
    _api()
    clients.s3()
    tracer()
    _CERTIFICATES.join()
