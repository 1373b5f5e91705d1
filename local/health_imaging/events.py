"""Sends HealthImaging's events to EventBridge, in the form that its developer guide documents."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from local.health_imaging.datastores import DataStore
    from local.health_imaging.image_sets import ImageSet
    from local.health_imaging.import_job import ImportJob

log = logging.getLogger(__name__)


class Events:
    """Sends events once, without retries: like the service's, their delivery is best effort.

    Parameters
    ----------
    client : boto3 EventBridge client, or None
        The EventBridge to send to; None sends nothing.
    source : str
        The source of the events. AWS uses ``aws.medical-imaging``, and reserves it.
    arn_prefix : str
        The start of a data store's ARN, before ``datastore/``.
    """

    def __init__(self, client: Any, source: str, arn_prefix: str) -> None:
        self._client = client
        self._source = source
        self._arn_prefix = arn_prefix

    def image_set(
        self, detail_type: str, image_set: ImageSet, version: int | None = None, source: ImageSet | None = None
    ) -> None:
        """Send an event of an image set: ``Image Set Created``, ``Image Set Deleted``, …

        ``version`` defaults to the latest one. ``source`` is the image set that this one is being copied from.
        """
        copied = (
            {} if source is None else {"sourceImageSetArn": self._arn(f"{source.datastore_id}/imageset/{source.id}")}
        )
        self._send(
            detail_type,
            f"{image_set.datastore_id}/imageset/{image_set.id}",
            {
                "imagesetId": image_set.id,
                "datastoreId": image_set.datastore_id,
                "imageSetVersion": str(version or image_set.version),
                "imageSetState": image_set.state,
                "imageSetWorkflowStatus": image_set.workflow_status,
                "isPrimary": image_set.is_primary,
                **copied,
            },
        )

    def import_job(self, detail_type: str, job: ImportJob) -> None:
        """Send an event of an import job: ``Import Job Submitted``, ``Import Job Completed``, …"""
        detail = {
            "datastoreId": job.datastore_id,
            "jobId": job.id,
            "jobName": job.name,
            "jobStatus": job.status,
            "inputS3Uri": job.input_uri,
            "outputS3Uri": job.output_uri,
        }
        self._send(detail_type, job.datastore_id, detail)

    def data_store(self, detail_type: str, store: DataStore, status: str) -> None:
        """Send an event of a data store: ``Data Store Created``, ``Data Store Deleted``, …"""
        detail = {"datastoreId": store.id, "datastoreName": store.name, "datastoreStatus": status}
        self._send(detail_type, store.id, detail)

    def _arn(self, resource: str) -> str:
        return f"{self._arn_prefix}datastore/{resource}"

    def _send(self, detail_type: str, resource: str, detail: dict[str, Any]) -> None:
        if self._client is None:
            return
        entry = {
            "Source": self._source,
            "DetailType": detail_type,
            "Resources": [self._arn(resource)],
            "Detail": json.dumps({"imagingVersion": "1.0", **detail}),
        }
        try:
            answer = self._client.put_events(Entries=[entry])
        except (BotoCoreError, ClientError) as error:
            log.warning("Sending the event %s failed: %s", detail_type, error)
            return
        if answer["FailedEntryCount"]:
            log.warning("EventBridge rejected the event %s: %s", detail_type, answer["Entries"][0].get("ErrorCode"))
