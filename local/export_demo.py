"""Shows exports in the demo: on events, by request manifest, and the removal of copies after a deletion."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from local.demo_part import DemoPart

if TYPE_CHECKING:
    from rich.console import Console

    from local.cloud import Deployment, LocalCloud
    from local.importing import ImportedFrame

BULK_FRAMES = 300
"""Frames of the large image set, whose export shows the throughput."""

INVALID_LINES = 4
"""Lines of the request manifest that Framegate must reject."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the demo's table."""

    action: str
    trigger: str
    frames: int
    size_bytes: int
    seconds: float
    check: str


class ExportDemo(DemoPart):
    """The export part of the demo."""

    def __init__(self, console: Console, cloud: LocalCloud, deployment: Deployment, datastore_id: str) -> None:
        super().__init__(console, cloud, deployment, datastore_id)
        self._health_imaging = cloud.client("medical-imaging")
        self._results: list[Result] = []

    def wait_for_import_export(self, frames: list[ImportedFrame], started: float) -> None:
        """Wait until the import's events have exported its frames to S3, and compare each copy with HealthImaging.

        Parameters
        ----------
        frames : list of ImportedFrame
            The imported frames.
        started : float
            When the import started, on the clock of `time.monotonic`.
        """
        keys = {f"frames/{each.datastore_id}/{each.image_set_id}/{each.image_frame_id}" for each in frames}
        self._wait(lambda: keys <= self._keys("frames/"), f"exporting {len(frames)} frames")
        seconds = time.monotonic() - started
        image_sets = {each.image_set_id for each in frames}
        self._wait(lambda: image_sets <= set(self._exported_image_sets()), "writing the manifests")
        correct = sum(map(self._is_identical, frames))
        size_bytes = sum(each.size for each in frames)
        self._add_result(
            "import and export", "Image Set Created", len(frames), size_bytes, seconds, correct, "identical in S3"
        )

    def export_by_request(self, sample: ImportedFrame) -> None:
        """Put a request manifest with valid and invalid lines into the bucket, and show the outcome of each line.

        Parameters
        ----------
        sample : ImportedFrame
            The frame to verify. A large image set is made of copies of it.
        """
        content = self._cloud.health_imaging.content(sample)
        bulk = self._cloud.health_imaging.add_frames(self._datastore_id, [content] * BULK_FRAMES, "image/jph")[0]
        names = {"datastoreId": self._datastore_id}
        lines: list[tuple[str, Any]] = [
            (f"an image set of {BULK_FRAMES} frames", {**names, "imageSetId": bulk.image_set_id}),
            (
                "one frame, with pixel verification",
                {
                    **names,
                    "imageSetId": sample.image_set_id,
                    "imageFrameIds": [sample.image_frame_id],
                    "verify": True,
                },
            ),
            ("an image set that does not exist", {**names, "imageSetId": "0" * 32}),
            ("a data store outside the deployment", {"datastoreId": "0" * 32, "imageSetId": "0" * 32}),
            ("a malformed id", {**names, "imageSetId": "CT-2026"}),
            ("an unknown member", {**names, "imageSetId": bulk.image_set_id, "priority": 1}),
            ("not JSON", "image set 7, please"),
        ]
        started = time.monotonic()
        self._s3.put_object(
            Bucket=self._bucket,
            Key="export-requests/demo.jsonl",
            Body="\n".join(line if isinstance(line, str) else json.dumps(line) for _, line in lines).encode(),
        )
        folder = self._wait_for_results("exports/requests/demo.jsonl/")
        seconds = time.monotonic() - started
        summary = json.loads(self._read(f"{folder}/summary.json"))
        rejected = self._show_outcomes(lines, folder)
        frames = summary["frames"]["copied"] + summary["frames"]["present"]
        verified = self._is_verified(sample, f"{folder.rpartition('/')[2]}-2")
        as_expected = summary["exports"] == {"completed": 2, "failed": 1} and rejected == INVALID_LINES and verified
        correct = frames if as_expected else 0
        self._add_result(
            "request manifest", "Step Functions", frames, summary["bytes"], seconds, correct, "in S3, 1 verified"
        )

    def _wait_for_results(self, prefix: str) -> str:
        """Wait until a request manifest is finished; return the folder of its results."""

        def summaries() -> list[str]:
            return [key for key in self._keys(prefix) if key.endswith("/summary.json")]

        self._wait(lambda: bool(summaries()), "running the exports of the manifest")
        return summaries()[0].rpartition("/")[0]

    def _show_outcomes(self, lines: list[tuple[str, Any]], folder: str) -> int:
        """Print the outcome of each line of a request; return the number of rejected lines."""
        failed = self._lines(f"{folder}/failed.jsonl")
        rejected = {each["line"]: each["reason"] for each in self._lines(f"{folder}/rejected.jsonl")}
        table = Table("line", "request", "outcome", box=None, pad_edge=False)
        for number, (what, line) in enumerate(lines, start=1):
            outcome = "[green]exported[/]"
            if number in rejected:
                outcome = f"[yellow]rejected:[/] {rejected[number]}"
            elif line in failed:
                outcome = "[yellow]failed:[/] HealthImaging has no such image set"
            table.add_row(str(number), what, outcome)
        self._console.print(table)
        self._console.print(
            "Programs read the same from summary.json, rejected.jsonl and failed.jsonl in the bucket", style="dim"
        )
        return len(rejected)

    def _is_verified(self, frame: ImportedFrame, export_id: str) -> bool:
        key = f"exports/{frame.datastore_id}/{frame.image_set_id}/{export_id}/manifest.jsonl"
        return [line.get("pixelsVerified") for line in self._lines(key)] == [True]

    def delete_image_set(self, frame: ImportedFrame) -> None:
        """Delete an image set from HealthImaging, and wait until Framegate has removed its copies and manifests."""
        prefixes = [f"{kind}/{frame.datastore_id}/{frame.image_set_id}/" for kind in ("frames", "exports")]
        before = [self._keys(prefix) for prefix in prefixes]
        started = time.monotonic()
        self._health_imaging.delete_image_set(datastoreId=frame.datastore_id, imageSetId=frame.image_set_id)
        self._wait(lambda: not any(self._keys(prefix) for prefix in prefixes), "removing the copies")
        seconds = time.monotonic() - started
        count = len(before[0])
        self._add_result(
            "deletion",
            "Image Set Deleted, SQS",
            count,
            0,
            seconds,
            count,
            f"copies removed; manifests removed: {len(before[1])}",
        )

    def show(self) -> None:
        """Print the table of results."""
        table = Table("action", "trigger", "frames", "MB", "seconds", "frames/s", "check", box=None, pad_edge=False)
        for column in (2, 3, 4, 5):
            table.columns[column].justify = "right"
        for each in self._results:
            size = f"{each.size_bytes / 1e6:.1f}" if each.size_bytes else ""
            rate = f"{each.frames / each.seconds:.0f}"
            table.add_row(each.action, each.trigger, str(each.frames), size, f"{each.seconds:.1f}", rate, each.check)
        self._console.print(table)

    def _add_result(
        self, action: str, trigger: str, frames: int, size_bytes: int, seconds: float, correct: int, check: str
    ) -> None:
        self.failures += correct != frames
        verdict = f"[green]{correct} {check}[/]" if correct == frames else f"[red]{correct} of {frames} {check}[/]"
        self._results.append(Result(action, trigger, frames, size_bytes, seconds, verdict))

    def _is_identical(self, frame: ImportedFrame) -> bool:
        answer = self._health_imaging.get_image_frame(
            datastoreId=frame.datastore_id,
            imageSetId=frame.image_set_id,
            imageFrameInformation={"imageFrameId": frame.image_frame_id},
        )
        key = f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
        stored = self._s3.get_object(Bucket=self._bucket, Key=key)
        same = stored["Body"].read() == answer["imageFrameBlob"].read()
        return bool(same and stored["ContentType"] == answer["contentType"])

    def _exported_image_sets(self) -> list[str]:
        """The image sets that have a manifest."""
        prefix = f"exports/{self._datastore_id}/"
        return [
            key.removeprefix(prefix).partition("/")[0] for key in self._keys(prefix) if key.endswith("manifest.jsonl")
        ]

    def _keys(self, prefix: str) -> set[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {each["Key"] for page in pages for each in page.get("Contents", [])}

    def _lines(self, key: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._read(key).splitlines()]

    def _read(self, key: str) -> str:
        return str(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read().decode())
