"""The demo: deploys the stack, imports real DICOM files, and shows their frames by URL and in S3."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import requests
from PIL import Image
from rich.console import Console
from rich.table import Table

from local.audit_demo import AuditDemo
from local.cloud import ACCESS_KEY, PROJECT, REGION, SECRET_KEY, LocalCloud
from local.command import run_command
from local.dataset_demo import DatasetDemo
from local.export_demo import ExportDemo
from local.importing import ImportedFrame, import_folder
from local.pictures import contact_sheet, essence
from local.resolution_demo import ResolutionDemo
from local.samples import MAMMOGRAM, write_samples
from local.signing import SigV4

if TYPE_CHECKING:
    from local.cloud import Deployment

OUTPUT = PROJECT / "demo-output"
CALL_TIMEOUT_SECONDS = 40
MIN_WIDTH_COLUMNS = 116
CT, RADIOGRAPH = "693_UNCR.dcm", "RG1_UNCR.dcm"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A frame as the REST API delivered it."""

    frame: ImportedFrame
    media_type: str
    content: bytes
    delivery: str
    milliseconds: float


class Demo:
    """One run of the demo against a deployment.

    Parameters
    ----------
    console : Console
        Prints the tables.
    cloud : LocalCloud
        The running local cloud.
    deployment : Deployment
        The stack deployed in it.

    Attributes
    ----------
    session : requests.Session
        Signs requests to the API.
    failures : int
        Number of failed checks.
    """

    def __init__(self, console: Console, cloud: LocalCloud, deployment: Deployment) -> None:
        self._console = console
        self._health_imaging = cloud.client("medical-imaging")
        self._api = deployment.api_url
        self.session = requests.Session()
        self.session.auth = SigV4(ACCESS_KEY, SECRET_KEY, REGION)
        self.failures = 0

    def fetch(self, frame: ImportedFrame) -> Fetched:
        """Get a frame as a viewer does, following the redirect of a large frame."""
        started = time.perf_counter()
        # Only API Gateway needs the signature: a pre-signed URL carries its own, and S3 refuses a second one.
        answer = self.session.get(self._api + frame.path, timeout=CALL_TIMEOUT_SECONDS, allow_redirects=False)
        delivery = "inline"
        if answer.status_code == requests.codes.see_other:
            delivery = "303 to S3"
            answer = requests.get(answer.headers["Location"], timeout=CALL_TIMEOUT_SECONDS)
        answer.raise_for_status()
        milliseconds = (time.perf_counter() - started) * 1000
        return Fetched(frame, answer.headers["Content-Type"], answer.content, delivery, milliseconds)

    def matches_health_imaging(self, fetched: Fetched) -> bool:
        """Compare a frame and its media type with HealthImaging's own response, which names no transfer syntax."""
        frame = fetched.frame
        answer = self._health_imaging.get_image_frame(
            datastoreId=frame.datastore_id,
            imageSetId=frame.image_set_id,
            imageFrameInformation={"imageFrameId": frame.image_frame_id},
        )
        has_same_type = essence(answer["contentType"]) == essence(fetched.media_type)
        same = has_same_type and answer["imageFrameBlob"].read() == fetched.content
        self.failures += not same
        return bool(same)

    def fetch_all(self, frames_by_file: dict[str, list[ImportedFrame]], about: dict[str, str]) -> dict[str, Fetched]:
        """Fetch and compare every frame, and print a line for each file; return the first frame of each file."""
        table = _table("file", "kind", "media type", "bytes", "frames", "delivery", "ms", "identical")
        for column in (3, 4, 6):
            table.columns[column].justify = "right"
        first_frames = {}
        for name, frames in frames_by_file.items():
            with self._console.status(f"fetching {len(frames)} frames of {name}"):
                fetched = [self.fetch(frame) for frame in frames]
                identical = sum(map(self.matches_health_imaging, fetched))
            first = first_frames[name] = fetched[0]
            table.add_row(
                name,
                about[name],
                essence(first.media_type),
                f"{len(first.content):,}",
                str(len(fetched)),
                " + ".join(Counter(each.delivery for each in fetched)),
                f"{sum(each.milliseconds for each in fetched) / len(fetched):.0f}",
                "yes" if identical == len(fetched) else f"[red]{identical} of {len(fetched)}[/]",
            )
        self._console.print(table)
        self._console.print(
            "bytes: size of the first frame; ms: mean over all frames; "
            "identical: every frame equals HealthImaging's own response, byte by byte",
            style="dim",
        )
        return first_frames

    def save_pictures(self, first_frames: dict[str, Fetched]) -> int:
        """Save a contact sheet of the files, whose tiles come through ``/thumbnail`` alone; return their number.

        A video, and a file without attributes of an image, have no thumbnail.
        """
        shutil.rmtree(OUTPUT, ignore_errors=True)
        OUTPUT.mkdir()
        tiles = []
        for name, fetched in first_frames.items():
            url = f"{self._api}{fetched.frame.path}/thumbnail"
            answer = self.session.get(url, params={"accept": "image/png"}, timeout=CALL_TIMEOUT_SECONDS)
            if answer.status_code == requests.codes.not_acceptable:
                continue
            answer.raise_for_status()
            caption = f"{name}\n{essence(fetched.media_type)}, {len(fetched.content):,} bytes"
            tiles.append((caption, Image.open(io.BytesIO(answer.content))))
        contact_sheet(tiles, OUTPUT / "contact-sheet.png")
        return len(tiles)

    def show_requests(self, small: ImportedFrame, large: ImportedFrame) -> None:
        """Call every frame route with every form of delivery, and requests that must fail; compare the statuses."""
        table = _table("request", "expected", "status", "response")
        image_set = f"{self._api}/datastore/{small.datastore_id}/imageSet/{small.image_set_id}"
        frame, big = self._api + small.path, self._api + large.path
        by_id = {"imageFrameId": small.image_frame_id}
        calls: list[tuple[str, int, dict[str, Any]]] = [
            ("GET …/imageFrame/{id}", 200, {"url": frame}),
            ("GET …/getImageFrame?imageFrameId={id}", 200, {"url": f"{image_set}/getImageFrame", "params": by_id}),
            ("POST …/getImageFrame, id in JSON", 200, {"url": f"{image_set}/getImageFrame", "json": by_id}),
            (
                "POST …/getImageFrame, JSON of the SDK",
                200,
                {"url": f"{image_set}/getImageFrame", "json": {"imageFrameInformation": by_id}},
            ),
            ("Accept: application/json", 200, {"url": frame, "headers": {"Accept": "application/json"}}),
            ("If-None-Match: the frame's ETag", 304, {"url": frame, "headers": {"If-None-Match": _etag(small)}}),
            ("If-Match: another ETag", 412, {"url": frame, "headers": {"If-Match": _etag(large)}}),
            ("HEAD", 200, {"url": frame, "method": "HEAD"}),
            ("delivery=url", 303, {"url": frame, "params": {"delivery": "url"}}),
            ("large frame", 303, {"url": big}),
            ("large frame, Accept: application/json", 200, {"url": big, "headers": {"Accept": "application/json"}}),
            ("large frame, delivery=inline", 413, {"url": big, "params": {"delivery": "inline"}}),
            ("Accept: text/html", 406, {"url": frame, "headers": {"Accept": "text/html"}}),
            ("delivery=pigeon", 400, {"url": frame, "params": {"delivery": "pigeon"}}),
            ("malformed id", 400, {"url": frame + "x"}),
            ("unknown frame", 404, {"url": f"{image_set}/imageFrame/{'0' * 32}"}),
            ("data store outside the deployment", 403, {"url": frame.replace(small.datastore_id, "0" * 32)}),
            ("unknown path", 404, {"url": f"{self._api}/datastores"}),
            ("DELETE", 405, {"url": frame, "method": "DELETE"}),
            ("no signature", 403, {"url": frame, "auth": lambda request: request}),
        ]
        for title, expected, call in calls:
            method = call.pop("method", "POST" if "json" in call else "GET")
            answer = self.session.request(method, **call, timeout=CALL_TIMEOUT_SECONDS, allow_redirects=False)
            passed = answer.status_code == expected
            self.failures += not passed
            status = f"[{'green' if passed else 'red'}]{answer.status_code}[/]"
            table.add_row(title, str(expected), status, _summary(answer))
        self._console.print(table)


def _table(*headers: str) -> Table:
    return Table(*headers, box=None, pad_edge=False)


def _etag(frame: ImportedFrame) -> str:
    return f'"{frame.image_frame_id}.image/jph"'


def _summary(answer: requests.Response) -> str:
    """A few words about a response, for the table."""
    if "Location" in answer.headers:
        return "Location: a pre-signed S3 URL"
    media_type = answer.headers.get("Content-Type", "")
    if media_type == "application/problem+json":
        return str(answer.json().get("detail"))
    if media_type == "application/json" and answer.content:
        return "{" + ", ".join(answer.json()) + "}"
    return f"{media_type}, {len(answer.content):,} bytes" if answer.content else "no body"


def _by_file(frames: list[ImportedFrame], folder: Path) -> dict[str, list[ImportedFrame]]:
    """Group frames by the name of their DICOM file."""
    found: dict[str, list[ImportedFrame]] = {}
    for path in sorted(folder.iterdir()):
        uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        found[path.name] = [frame for frame in frames if frame.sop_instance_uid == uid]
    return found


def run() -> int:
    """Run the demo; return 1 if a check failed."""
    # Rich wraps redirected output at 80 columns; the tables are wider.
    console = Console(width=max(MIN_WIDTH_COLUMNS, Console().width))
    started = time.monotonic()

    def step(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}", highlight=False, soft_wrap=True)

    with LocalCloud(step) as cloud, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        about = write_samples(folder)
        datastore_id = cloud.client("medical-imaging").create_datastore(datastoreName="demo")["datastoreId"]
        deployment = cloud.deploy(datastore_id)
        step(f"importing {len(about)} DICOM files with StartDICOMImportJob")
        import_started = time.monotonic()
        frames = import_folder(cloud, datastore_id, folder)
        export = ExportDemo(console, cloud, deployment, datastore_id)
        export.wait_for_import_export(frames, import_started)
        step(f"the import's events have exported all {len(frames)} frames to S3")
        demo = Demo(console, cloud, deployment)
        frames_by_file = _by_file(frames, folder)
        cold = demo.fetch(frames_by_file[CT][0])
        step(f"first frame delivered in {cold.milliseconds:.0f} ms, including the cold start")
        step(f"fetching all {len(frames)} frames from {deployment.api_url}\n")
        first_frames = demo.fetch_all(frames_by_file, about)
        console.print("\n[bold]Requests and their responses[/]")
        demo.show_requests(frames_by_file[CT][0], frames_by_file[MAMMOGRAM][0])
        pictures = demo.save_pictures(first_frames)
        console.print("\n[bold]Resolutions: a first image from a few kilobytes[/]")
        resolutions = ResolutionDemo(console, deployment.api_url, demo.session, OUTPUT)
        resolutions.show_resolutions({name: frames_by_file[name][0] for name in (CT, RADIOGRAPH, MAMMOGRAM)})
        console.print("\n[bold]Frame index: the frames of an image set[/]")
        resolutions.show_index(frames_by_file["color3d_jpeg_baseline.dcm"][0])
        console.print("\n[bold]Export by request manifest: valid and invalid lines[/]")
        export.export_by_request(frames_by_file[CT][0])
        export.delete_image_set(frames_by_file["color3d_jpeg_baseline.dcm"][0])
        console.print("\n[bold]Frames exported to S3 and removed from it[/]")
        export.show()
        console.print("\n[bold]Audit records: who read what[/]")
        audit = AuditDemo(console, cloud)
        audit.show()
        console.print("\n[bold]Datasets: DICOM files, a table that finds them, and a batch of slices[/]")
        deployment = cloud.deploy(datastore_id, export_output="dicom", dataset_tables="true")
        datasets = DatasetDemo(console, cloud, deployment, datastore_id)
        with tempfile.TemporaryDirectory() as series:
            expected = datasets.export_series(Path(series))
        step(f"the import's events have exported {len(expected)} DICOM files, and the table lists them")
        datasets.show(expected, OUTPUT / "slices.png")
    console.print(f"\nThumbnails of {pictures} files: {OUTPUT.name}/contact-sheet.png")
    console.print(f"The batch of slices: {OUTPUT.name}/slices.png")
    failures = demo.failures + resolutions.failures + export.failures + audit.failures + datasets.failures
    verdict = f"[red]{failures} checks failed[/]" if failures else "[green]every check passed[/]"
    console.print(f"{len(frames)} frames in {time.monotonic() - started:.0f} s; {verdict}")
    console.print("make viewer shows these studies in OHIF, a DICOM viewer, with a login page.", highlight=False)
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(run)
