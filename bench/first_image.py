"""Measures the first image of a radiograph in OHIF over a slow line, on the local cloud, logged in."""

from __future__ import annotations

import http.client
import sys
import tempfile
import threading
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from bench.measure import Row, row
from local.http_server import LoopbackServer
from local.viewer.chromium import CHROMIUM, FLAGS, TEN_MEGABITS

if TYPE_CHECKING:
    from pydicom import Dataset

TURNS = 3
MAX_SHARE = 0.15
_CONNECTION_HEADERS = {"connection", "transfer-encoding", "content-length", "cache-control", "date", "server"}
MAX_WAIT_MILLISECONDS = 120_000

WATCH = """
window.marks = {};
setInterval(() => {
  const image = window.cornerstone?.getRenderingEngines()?.[0]?.getViewports()?.[0]?.csImage, marks = window.marks;
  if (!image?.getPixelData?.()) return;
  marks.first ??= performance.now();
  if (image.imageQualityStatus === 8) marks.full ??= performance.now();
}, 5);
"""
"""Notes when the viewport has the first pixels of an image, and when it has all of them (ImageQualityStatus 8)."""

TIMES = """uid => {
  const requests = performance.getEntriesByType('resource').filter(each => each.name.includes(`${uid}/frames/`));
  const begun = Math.min(...requests.map(each => each.startTime));
  return [window.marks.first - begun, window.marks.full - begun];
}"""


def measure() -> list[Row]:
    """Open a radiograph of 4.4 MB in OHIF. Without Chromium or npm, there is no row."""
    from local.cloud import LocalCloudError
    from local.viewer import ohif

    if CHROMIUM is None:
        return _skipped("install Chromium, or set CHROMIUM to its path")
    try:
        application = ohif.download()
    except (LocalCloudError, OSError):
        return _skipped("npm cannot download OHIF")
    try:
        with tempfile.TemporaryDirectory() as folder:
            times, floor = _times(application, Path(folder))
    except LocalCloudError as error:
        return _skipped(str(error).splitlines()[0])
    return [
        row(
            "first image of a 4.4 MB radiograph in OHIF over 10 Mbit/s and 40 ms: over the whole frame's time",
            [first / full for first, full in times],
            target=MAX_SHARE,
        ),
        row(
            "  floor: the same responses from the memory of a server without API Gateway and Lambda",
            [first / full for first, full in floor],
        ),
        row("  first image, ms", [first for first, _ in times], unit="ms"),
        row("  first image, floor, ms", [first for first, _ in floor], unit="ms"),
        row("  whole frame, ms", [full for _, full in times], unit="ms"),
    ]


def _skipped(reason: str) -> list[Row]:
    print(f"the first image in OHIF is not measured: {reason}", file=sys.stderr, flush=True)
    return []


def _times(application: Path, folder: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Start everything, and return the milliseconds to the first and to the whole image, for each turn.

    The second list holds the same for responses from memory.
    """
    from playwright.sync_api import sync_playwright

    from local.cloud import LocalCloud
    from local.token_issuer import TokenIssuer
    from local.viewer.site import ViewerSite

    files = folder / "files"
    files.mkdir()
    shown = [_write_radiographs(files) for _ in range(TURNS + 1)]
    with (
        TokenIssuer(folder, "/viewer") as issuer,
        LocalCloud(trusted=issuer.certificate) as cloud,
        ViewerSite(application, issuer, issuer.new_key("ES256", "viewer")) as site,
        sync_playwright() as playwright,
    ):
        datastore_id = cloud.health_imaging.create_datastore("bench")
        cloud.health_imaging.import_files(datastore_id, sorted(files.iterdir()))
        site.deploy(cloud, datastore_id)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(site.url)
            page.get_by_label("Name").fill("radiologist")
            page.get_by_role("button", name="Log in").click()
            page.get_by_text("Large, Images").first.wait_for(timeout=MAX_WAIT_MILLISECONDS)
            page.add_init_script(WATCH)
            # The first opening starts functions and downloads OHIF's decoder, so it is not typical.
            times = [_open(page, site.url, dataset) for dataset in shown][1:]
            with _Memory(site.dicomweb_url) as memory:
                site.dicomweb_url = memory.url
                # The first opening fills the memory.
                return times, [_open(page, site.url, shown[0]) for _ in range(TURNS + 1)][1:]
        finally:
            browser.close()


def _open(page: Any, site_url: str, dataset: Dataset) -> tuple[float, float]:
    """Open a radiograph that the browser does not know yet over the slow line.

    The browser has the application in its cache, as after any visit: OHIF's HTJ2K decoder alone has 2.1 MB.
    """
    # Interception of requests by Playwright would switch the cache off.
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", TEN_MEGABITS)
    study, series = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    page.goto(f"{site_url}/viewer?StudyInstanceUIDs={study}&SeriesInstanceUIDs={series}")
    page.wait_for_function("() => window.marks?.full", timeout=MAX_WAIT_MILLISECONDS)
    first, full = page.evaluate(TIMES, dataset.SOPInstanceUID)
    session.detach()
    return first, full


class _Memory:
    """A server that passes GET requests on once, and answers them from memory after that."""

    def __init__(self, upstream_url: str) -> None:
        answers: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        upstream = urlsplit(upstream_url)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                key = f"{self.command} {self.path} {self.headers.get('Accept')}"
                answer = answers.get(key)
                if answer is None:
                    connection = http.client.HTTPConnection(upstream.netloc)
                    connection.request(self.command, self.path, headers=dict(self.headers) | {"Host": upstream.netloc})
                    response = connection.getresponse()
                    kept = [each for each in response.getheaders() if each[0].lower() not in _CONNECTION_HEADERS]
                    answer = answers[key] = response.status, kept, response.read()
                    connection.close()
                status, headers, body = answer
                self.send_response_only(status)
                for name, value in [*headers, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_OPTIONS = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = LoopbackServer(("127.0.0.1", 0), Handler)
        self.url = upstream._replace(netloc=f"localhost:{self._server.server_address[1]}").geturl()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _write_radiographs(folder: Path) -> Dataset:
    """Write a study of three radiographs, and return the one that OHIF shows first.

    OHIF reads the middle one whole for its thumbnail, if the thumbnail comes from a frame.
    """
    import pydicom
    from pydicom.data import get_testdata_file
    from pydicom.uid import generate_uid

    with warnings.catch_warnings(action="ignore"):
        dataset = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    # The file has a spacing of zero, with which no viewer draws it.
    dataset.PixelSpacing, dataset.PatientName = [0.2, 0.2], "Large^Images"
    # The order is the same by number and by UID.
    uids = sorted(generate_uid() for _ in range(3))
    for number in (3, 2, 1):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uids[number - 1]
        dataset.InstanceNumber = number
        dataset.save_as(folder / f"{uids[number - 1]}.dcm")
    return dataset
