"""The demo's second half: frames that come to S3 by themselves, a request manifest, and a deletion that reaches all."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from local.cloud import Deployment, LocalCloud
    from local.importing import ImportedFrame

BULK = 300
"""Frames of an image set that is large enough to see how fast it goes."""

REJECTED = 4
"""Lines of the request manifest that are not requests."""

PATIENCE_SECONDS = 120
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Done:
    """A line of the demo's table: what was done, how much of it, and how long it took."""

    what: str
    by: str
    frames: int
    size: int
    seconds: float
    check: str


class ExportDemo:
    """One run of it against a deployment.

    Parameters
    ----------
    console : Console
        Where it shows what it does.
    cloud : LocalCloud
        The local cloud, started.
    deployment : Deployment
        The stack in it.
    datastore_id : str
        The data store that it serves.
    """

    def __init__(self, console: Console, cloud: LocalCloud, deployment: Deployment, datastore_id: str) -> None:
        self._console = console
        self._cloud = cloud
        self._s3 = cloud.client("s3")
        self._health_imaging = cloud.client("medical-imaging")
        self._bucket = deployment.frame_bucket
        self._datastore_id = datastore_id
        self._done: list[Done] = []
        self.failures = 0

    def await_export(self, frames: list[ImportedFrame], started: float) -> None:
        """Wait until the frames of an import are in S3, which nobody has asked for, and account for each."""
        wanted = {f"frames/{each.datastore_id}/{each.image_set_id}/{each.image_frame_id}" for each in frames}
        self._wait(lambda: wanted <= self._keys("frames/"), f"the {len(frames)} frames are being exported")
        seconds = time.monotonic() - started
        image_sets = {each.image_set_id for each in frames}
        self._wait(lambda: image_sets <= set(self._manifests()), "the manifests are being written")
        right = sum(map(self._is_identical, frames))
        size = sum(each.size for each in frames)
        self._account(
            "import and export", "Image Set Created", len(frames), size, seconds, right, "in S3, byte by byte"
        )

    def work_off_requests(self, some: ImportedFrame) -> None:
        """Put a request manifest with good and bad lines into the bucket, and show what became of each.

        Parameters
        ----------
        some : ImportedFrame
            A frame to verify; another image set is made of many copies of it.
        """
        content = self._cloud.health_imaging.content(some)
        whole = self._cloud.health_imaging.add_frames(self._datastore_id, [content] * BULK, "image/jph")[0]
        names = {"datastoreId": self._datastore_id}
        lines: list[tuple[str, Any]] = [
            (f"an image set of {BULK} frames", {**names, "imageSetId": whole.image_set_id}),
            (
                "one frame, its pixels verified",
                {
                    **names,
                    "imageSetId": some.image_set_id,
                    "imageFrameIds": [some.image_frame_id],
                    "verify": True,
                },
            ),
            ("an image set that does not exist", {**names, "imageSetId": "0" * 32}),
            ("a data store that is not served", {"datastoreId": "0" * 32, "imageSetId": "0" * 32}),
            ("a malformed id", {**names, "imageSetId": "CT-2026"}),
            ("a member that there is not", {**names, "imageSetId": whole.image_set_id, "priority": 1}),
            ("no JSON at all", "image set 7, please"),
        ]
        started = time.monotonic()
        self._s3.put_object(
            Bucket=self._bucket,
            Key="export-requests/demo.jsonl",
            Body="\n".join(line if isinstance(line, str) else json.dumps(line) for _, line in lines).encode(),
        )
        folder = self._results_of("exports/requests/demo.jsonl/")
        seconds = time.monotonic() - started
        summary = json.loads(self._read(f"{folder}/summary.json"))
        rejected = self._show_outcomes(lines, folder)
        frames = summary["frames"]["copied"] + summary["frames"]["present"]
        verified = self._is_verified(some, f"{folder.rpartition('/')[2]}-2")
        as_expected = summary["exports"] == {"completed": 2, "failed": 1} and rejected == REJECTED and verified
        right = frames if as_expected else 0
        self._account(
            "request manifest", "Step Functions", frames, summary["bytes"], seconds, right, "in S3, 1 verified"
        )

    def _results_of(self, prefix: str) -> str:
        """Wait until a request manifest is worked off; return the folder of its results."""

        def summaries() -> list[str]:
            return [key for key in self._keys(prefix) if key.endswith("/summary.json")]

        self._wait(lambda: bool(summaries()), "the manifest is being worked off")
        return summaries()[0].rpartition("/")[0]

    def _show_outcomes(self, lines: list[tuple[str, Any]], folder: str) -> int:
        """Show what became of each line of a request; return how many were rejected."""
        failed = self._lines(f"{folder}/failed.jsonl")
        rejected = {each["line"]: each["reason"] for each in self._lines(f"{folder}/rejected.jsonl")}
        table = Table("line", "asks for", "outcome", box=None, pad_edge=False)
        for number, (what, line) in enumerate(lines, start=1):
            outcome = "[green]exported[/]"
            if number in rejected:
                outcome = f"[yellow]rejected:[/] {rejected[number]}"
            elif line in failed:
                outcome = "[yellow]failed:[/] HealthImaging knows no such image set"
            table.add_row(str(number), what, outcome)
        self._console.print(table)
        self._console.print(
            "the same for machines: summary.json, rejected.jsonl and failed.jsonl in the bucket", style="dim"
        )
        return len(rejected)

    def _is_verified(self, frame: ImportedFrame, export_id: str) -> bool:
        key = f"exports/{frame.datastore_id}/{frame.image_set_id}/{export_id}/manifest.jsonl"
        return [line.get("pixelsVerified") for line in self._lines(key)] == [True]

    def delete(self, frame: ImportedFrame) -> None:
        """Delete an image set from HealthImaging, and see its copies and manifests go."""
        prefixes = [f"{kind}/{frame.datastore_id}/{frame.image_set_id}/" for kind in ("frames", "exports")]
        before = [self._keys(prefix) for prefix in prefixes]
        started = time.monotonic()
        self._health_imaging.delete_image_set(datastoreId=frame.datastore_id, imageSetId=frame.image_set_id)
        self._wait(lambda: not any(self._keys(prefix) for prefix in prefixes), "the copies are being removed")
        seconds = time.monotonic() - started
        count = len(before[0])
        self._account(
            "deletion", "Image Set Deleted, SQS", count, 0, seconds, count, f"and {len(before[1])} manifests gone"
        )

    def show(self) -> None:
        """Show what was done, how much, and how fast."""
        table = Table("what", "triggered by", "frames", "MB", "seconds", "frames/s", "", box=None, pad_edge=False)
        for column in (2, 3, 4, 5):
            table.columns[column].justify = "right"
        for done in self._done:
            size = f"{done.size / 1e6:.1f}" if done.size else ""
            rate = f"{done.frames / done.seconds:.0f}"
            table.add_row(done.what, done.by, str(done.frames), size, f"{done.seconds:.1f}", rate, done.check)
        self._console.print(table)

    def _account(self, what: str, by: str, frames: int, size: int, seconds: float, right: int, check: str) -> None:
        self.failures += right != frames
        verdict = f"[green]{right} {check}[/]" if right == frames else f"[red]{right} of {frames} {check}[/]"
        self._done.append(Done(what, by, frames, size, seconds, verdict))

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

    def _manifests(self) -> list[str]:
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

    def _wait(self, is_so: Callable[[], bool], meanwhile: str) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        with self._console.status(meanwhile):
            while not is_so():
                if time.monotonic() > give_up:
                    raise TimeoutError(f"It was waited for {PATIENCE_SECONDS} s that {meanwhile}.")
                time.sleep(POLL_SECONDS)
