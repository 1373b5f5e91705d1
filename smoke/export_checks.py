"""Checks both ways to export: a request manifest in the bucket, and an event of HealthImaging on the queue."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smoke.report import CheckFailedError, CheckSkippedError, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from smoke.deployment import Deployment, Frame

TIMEOUT_SECONDS = 300
POLL_SECONDS = 1.0

MAX_EVENT_FRAMES = 2000
"""Frames of the largest image set that the check exports completely."""


class ExportChecks:
    """Checks of the exports. They read from HealthImaging, and write only to the stack's own bucket and queue.

    Parameters
    ----------
    deployment : Deployment
        The deployment under test.
    frame : Frame
        The frame to export by request manifest. The event exports its whole image set.
    frame_count : int
        Number of frames in the image set.
    """

    def __init__(self, deployment: Deployment, frame: Frame, frame_count: int) -> None:
        self._deployment = deployment
        self._frame = frame
        self._frame_count = frame_count
        self._s3 = deployment.client("s3")
        self._name = f"smoke-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
        self._leftovers: list[str] = []

    def by_request(self) -> str:
        """A request manifest exports and verifies one frame, and a malformed line is rejected."""
        frame = self._frame
        lines = [
            {
                "datastoreId": frame.datastore_id,
                "imageSetId": frame.image_set_id,
                "imageFrameIds": [frame.image_frame_id],
                "verify": True,
            },
            {"datastoreId": frame.datastore_id, "imageSetId": "not-an-id"},
        ]
        key = f"export-requests/{self._name}"
        self._leftovers += [key, f"exports/requests/{self._name}/"]
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        self._s3.put_object(Bucket=self._deployment.bucket, Key=key, Body=body)
        prefix = f"exports/requests/{self._name}/"
        summary_key = self._wait(
            lambda: next((key for key in self._keys(prefix) if key.endswith("/summary.json")), None),
            "the state machine wrote no summary.json",
        )
        summary = json.loads(self._read(summary_key))
        expect("accepted lines", summary["lines"]["accepted"], 1)
        expect("rejected lines", summary["lines"]["rejected"], 1)
        expect("exports", summary["exports"], {"completed": 1, "failed": 0})
        (rejected,) = self._lines(summary["rejected"]["key"])
        expect("problem of the malformed line", rejected["problem"], "invalid-identifier")
        execution = summary_key.removeprefix(prefix).partition("/")[0]
        self._leftovers.append(f"exports/{frame.datastore_id}/{frame.image_set_id}/{execution}-1/")
        (line,) = self._lines(f"{self._leftovers[-1]}manifest.jsonl")
        self._expect_copy(line)
        verified = "its pixels verified" if line.get("pixelsVerified") else "its pixels not verifiable"
        return f"1 frame {line['outcome']}, {verified}; 1 line rejected"

    def by_event(self) -> str:
        """An event of HealthImaging exports a whole image set.

        Only AWS may send HealthImaging's events to the bus, so the check sends one to the queue, as EventBridge does.
        """
        frame = self._frame
        if self._frame_count > MAX_EVENT_FRAMES:
            raise CheckSkippedError(
                f"the image set has {self._frame_count:,} frames; name one of at most {MAX_EVENT_FRAMES:,} "
                "with image_set=…"
            )
        names = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id}
        properties = self._deployment.client("medical-imaging").get_image_set(**names)
        version = properties["versionId"]
        event = {
            "version": "0",
            "detail-type": "Image Set Created",
            "source": "aws.medical-imaging",
            "detail": {
                "imagingVersion": "1.0",
                "datastoreId": frame.datastore_id,
                "imagesetId": frame.image_set_id,
                "imageSetState": properties["imageSetState"],
                "imageSetWorkflowStatus": properties.get("imageSetWorkflowStatus", "CREATED"),
                "imageSetVersion": version,
            },
        }
        started = datetime.now(UTC)
        self._deployment.client("sqs").send_message(
            QueueUrl=self._deployment.outputs["ExportQueueUrl"], MessageBody=json.dumps(event)
        )
        key = f"exports/{frame.datastore_id}/{frame.image_set_id}/version-{version}/manifest.jsonl"
        self._wait(lambda: self._is_newer(key, started), f"the export function wrote no {key}")
        lines = self._lines(key)
        expect("lines of the manifest", len(lines), self._frame_count)
        failed = [line for line in lines if line["outcome"] not in {"copied", "present"}]
        if failed:
            raise CheckFailedError(f"{len(failed)} of {len(lines)} frames failed: {failed[0]['outcome']}")
        self._expect_copy(next(line for line in lines if line["imageFrameId"] == frame.image_frame_id))
        return f"{len(lines)} frames in the manifest of version {version}"

    def clean_up(self) -> str:
        """Delete the request and its results. Exported frames and the image set's manifest stay."""
        keys = [key for prefix in self._leftovers for key in self._keys(prefix)]
        for key in keys:
            self._s3.delete_object(Bucket=self._deployment.bucket, Key=key)
        return f"{len(keys)} objects of this run deleted; exported frames stay"

    def _expect_copy(self, line: dict[str, Any]) -> None:
        if line["outcome"] not in {"copied", "present"}:
            raise CheckFailedError(f"the frame's outcome is {line['outcome']}: {line.get('detail', '')}")
        content = self._s3.get_object(Bucket=self._deployment.bucket, Key=line["key"])["Body"].read()
        if content != self._frame.content:
            raise CheckFailedError(f"{line['key']} differs from GetImageFrame")

    def _is_newer(self, key: str, started: datetime) -> str | None:
        """Return the key if its object is not older than `started`, in whole seconds as in S3; otherwise None."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._deployment.bucket, Prefix=key)
        found = [each for page in pages for each in page.get("Contents", [])]
        return key if any(each["LastModified"] >= started.replace(microsecond=0) for each in found) else None

    def _wait(self, find: Callable[[], str | None], otherwise: str) -> str:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (found := find()) is None:
            if time.monotonic() > deadline:
                raise CheckFailedError(f"{otherwise} within {TIMEOUT_SECONDS} s; docs/operations.md says where to look")
            time.sleep(POLL_SECONDS)
        return found

    def _keys(self, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._deployment.bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def _lines(self, key: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._read(key).splitlines()]

    def _read(self, key: str) -> str:
        return str(self._s3.get_object(Bucket=self._deployment.bucket, Key=key)["Body"].read().decode())
