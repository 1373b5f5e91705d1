"""The function behind the REST API."""

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
from framegate.aws.export_queue import ExportQueue
from framegate.aws.lambda_runtime import install_marshaller
from framegate.delivery.deferred_store import DeferredStoreQueue
from framegate.delivery.executor import MAX_CONCURRENT_FRAMES, FrameDelivery
from framegate.healthimaging.client import HealthImaging
from framegate.index.frame_index import FrameIndex
from framegate.observability import count_cold_start, tracer
from framegate.rest.frame_api import FrameApi
from framegate.rest.http import INLINE_LIMIT
from framegate.settings import CACHE_CONTROL, Settings, is_snapshot_start
from framegate.storage.body_store import BodyStore
from framegate.storage.frame_store import FrameStore
from framegate.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from framegate.rest.exchange import Handler


_HAS_MARSHALLER = install_marshaller()


@cache
def _api() -> FrameApi:
    settings = Settings.from_environment()
    threads = ThreadPoolExecutor(clients.S3_CONNECTIONS, thread_name_prefix="s3")
    objects = ObjectStore(clients.session(), clients.s3, settings.frame_bucket, threads, clients.S3_CONNECTIONS)
    deferred_stores = DeferredStoreQueue(objects, ExportQueue(clients.sqs, settings.deferred_store_queue_url))
    source = HealthImaging(clients.session(), MAX_CONCURRENT_FRAMES)
    store = FrameStore(objects, CACHE_CONTROL[settings.frame_caching])
    lifetime_seconds = settings.presigned_url_lifetime_seconds
    bodies = BodyStore(objects, CACHE_CONTROL[settings.frame_caching])
    delivery = FrameDelivery(source, store, deferred_stores, INLINE_LIMIT, lifetime_seconds, bodies)
    index = FrameIndex(source, objects)

    access = ImageSetAccess(settings.datastore_ids, index, DecisionFunction.of_settings(clients.session(), settings))

    def dicomweb() -> Mapping[str, Handler]:
        # Imported here to keep cold starts of the frame routes short.
        from framegate.rest.dicomweb import DicomWebHandlers

        return DicomWebHandlers.build(settings, access, delivery, index, source, objects, bodies).by_operation

    return FrameApi(settings, delivery, index, access, dicomweb, base64_apart=_HAS_MARSHALLER)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request of API Gateway's Lambda proxy integration (payload format 1.0)."""
    count_cold_start("api")
    return _api().answer(event, context.get_remaining_time_in_millis())


if is_snapshot_start():
    # Loading costs no request any time before the snapshot, so everything that is otherwise loaded late is loaded here.
    import framegate.delivery.resolutions
    import framegate.messages  # noqa: F401

    _api().load_dicomweb()
    clients.s3()
    clients.sqs()
    tracer()
    _CERTIFICATES.join()
