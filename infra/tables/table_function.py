"""The Lambda function that keeps the tables of exported instances and frames up to date, and its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources

from framegate.bucket_layout import EXPORT_PREFIX, TABLE_PREFIX
from framegate.settings import TableSettings
from infra.build.bundling import TABLE_REQUIREMENTS
from infra.build.package_layer import PackageLayer
from infra.lambda_function import LambdaFunction
from infra.permissions import (
    acknowledge_image_sets,
    acknowledge_objects,
    acknowledge_prefixes,
    allow,
    image_sets,
    objects_of,
    uid_hash_secret,
    use_key,
)
from infra.queues import work_off
from infra.tables.table_queue import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore
    from infra.tables.table_queue import TableQueue

MEMORY_MB = 2048
"""Memory of the function. The rows of 200,000 frames and a file of 16 MiB take less than half of it."""

BATCH_SIZE, BATCH_WINDOW_SECONDS = 1000, 20
"""Messages per invocation, and the time for which Lambda collects them. Each batch rewrites a few files."""

CONCURRENCY = 2
"""Concurrent invocations: the minimum of an SQS event source. More would only wait for each other's files."""


class TableFunction(LambdaFunction):
    """The function that writes the tables.

    It may read manifests and metadata, but no frames and no DICOM files.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the data stores and the identifying columns.
    frame_store : FrameStore
        The bucket of manifests and tables.
    table_queue : TableQueue
        The queue that invokes the function.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore, table_queue: TableQueue
    ) -> None:
        queue = table_queue.queue
        layer = PackageLayer(
            scope,
            "Tables",
            config=config,
            requirements=TABLE_REQUIREMENTS,
            description="Reads and writes Parquet files",
        )
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler="tables",
            description="Keeps the tables of exports up to date",
            memory_mb=MEMORY_MB,
            timeout_seconds=TIMEOUT_SECONDS,
            reserved_concurrency=CONCURRENCY,
            # An update that outlasts an invocation, and a refresh, continue with messages to the function's own queue.
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
            layers=[layer],
            has_audit_records=False,
            settings=[
                TableSettings(
                    datastore_ids=config.datastore_ids,
                    frame_bucket=frame_store.bucket.bucket_name,
                    queue_url=queue.queue_url,
                    uid_hash_secret=uid_hash_secret(),
                    identifying_columns=config.dataset_columns,
                )
            ],
            statements=[
                allow(
                    "ReadMetadata",
                    ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
                    *image_sets(Stack.of(scope), config),
                ),
                allow("ReadManifests", ["s3:GetObject"], *objects_of(frame_store, config, EXPORT_PREFIX)),
                allow(
                    "WriteTables",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                    frame_store.bucket.arn_for_objects(f"{TABLE_PREFIX}*"),
                ),
                allow("ListObjects", ["s3:ListBucket"], frame_store.bucket.bucket_arn),
                work_off(queue),
                use_key(frame_store, "s3", "sqs"),
            ],
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, EXPORT_PREFIX)
        acknowledge_prefixes(self.role, frame_store, TABLE_PREFIX)
        self.function.add_event_source(
            event_sources.SqsEventSource(
                queue,
                batch_size=BATCH_SIZE,
                max_batching_window=Duration.seconds(BATCH_WINDOW_SECONDS),
                report_batch_item_failures=True,
                max_concurrency=CONCURRENCY,
            )
        )
