"""OHIF, unmodified, in Chromium: log in, find studies, and see the pixels of the files."""

from __future__ import annotations

import base64
import io
import json
import time
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import jwt
import numpy as np
import pytest
from PIL import Image

from local.cloud import LocalCloudError
from local.viewer import ohif
from tests.e2e.chromium import MAX_PAGE_SECONDS, chromium, needs_chromium
from tests.e2e.viewer_samples import SERIES

pytestmark = needs_chromium

AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
DECODED = "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"

TEN_MEGABITS = {"offline": False, "latency": 40, "downloadThroughput": 1_250_000, "uploadThroughput": 1_250_000}
"""A slow line, in milliseconds and bytes a second."""

MAX_GREY_DIFFERENCE = 3
"""Of 255, on average over an image. Chromium and Pillow interpolate differently; measured: 0.2 to 1.9."""

VIEWPORT = "window.cornerstone?.getRenderingEngines()?.[0]?.getViewports()?.[0]"

IS_COMPLETE = f"id => {{ const image = {VIEWPORT}?.csImage; return image?.imageQualityStatus === 8 && " + (
    "image.imageId.endsWith(id) && Boolean(image.getPixelData()); }"
)
"""Whether the viewport shows every byte of a frame. Before, OHIF shows resolutions of it (ImageQualityStatus)."""

SHOWN = f"""() => {{
  const viewport = {VIEWPORT}, image = viewport.csImage, pixels = image.getPixelData();
  const bytes = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength);
  const table = Array.from({{ length: 256 }}, (_, n) => {{
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  }});
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  const data = viewport.getImageData().imageData;
  const corner = (column, row) => viewport.worldToCanvas(data.indexToWorld([column, row, 0]));
  const {{ voiRange, invert }} = viewport.getProperties();
  return {{
    crc32: (crc ^ 0xffffffff) >>> 0, type: pixels.constructor.name, voiRange, invert, isColor: image.color,
    box: [...corner(-0.5, -0.5), ...corner(image.columns - 0.5, image.rows - 0.5)],
    picture: viewport.canvas.toDataURL(),
  }};
}}"""
"""The pixels that OHIF decoded, and what its canvas shows of them."""


@pytest.fixture(scope="module", autouse=True)
def application():
    try:
        ohif.download()
    except (LocalCloudError, FileNotFoundError) as error:
        pytest.skip(f"OHIF cannot be downloaded; it needs npm and its registry: {error}")


@pytest.fixture(scope="module")
def browser(application):
    with chromium() as running:
        yield running


@dataclass
class Tab:
    """A page, and the requests of its scripts to the API and to S3."""

    page: object
    answers: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    def requests_for(self, ending):
        return [each for each in self.answers if ending in each.path]

    @property
    def frames(self):
        return self.requests_for("/frames/")

    @property
    def from_s3(self):
        return [each for each in self.answers if not each.is_api]

    def wait_for_text(self, text):
        self.page.get_by_text(text).first.wait_for(timeout=MAX_PAGE_SECONDS * 1000)

    def wait_for_image(self, frame_path=""):
        """Wait until the viewport shows a whole frame, and return what it shows."""
        self.page.wait_for_function(IS_COMPLETE, arg=frame_path, timeout=MAX_PAGE_SECONDS * 1000)
        shown = self.page.evaluate(SHOWN)
        # Cornerstone draws in the next animation frame.
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return {**shown, **self.page.evaluate(SHOWN)}


@pytest.fixture
def new_tab(browser, viewer):
    """Opens a browser in which nobody has been, or in which a person has logged in."""
    contexts = []
    api = urlsplit(viewer.deployment.api_url)
    s3 = api.netloc.replace("localhost", "127.0.0.1")

    def open_one(cookies=()):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        context.add_cookies(list(cookies))
        tab = Tab(context.new_page())

        def note(request, status):
            url = urlsplit(request.url)
            if url.netloc in (api.netloc, s3):
                tab.answers.append(_answer(request, url, status, url.netloc == api.netloc))

        tab.page.on("response", lambda response: note(response.request, response.status))
        tab.page.on("requestfailed", lambda request: tab.failures.append((request.url, request.failure)))
        return tab

    yield open_one
    for context in contexts:
        context.close()


def _answer(request, url, status, is_api):
    headers = request.headers
    return SimpleNamespace(
        path=url.path,
        query=parse_qs(url.query),
        status=status,
        is_api=is_api,
        resource=request.resource_type,
        accept=headers.get("accept"),
        authorization=headers.get("authorization"),
    )


def log_in(tab, name):
    tab.page.get_by_label("Name").fill(name)
    tab.page.get_by_role("button", name="Log in").click()


@pytest.fixture(scope="module")
def cookies(browser, viewer):
    """The cookies of a browser in which a person has logged in."""
    context = browser.new_context()
    tab = Tab(context.new_page())
    tab.page.goto(viewer.site.url)
    log_in(tab, "radiologist")
    tab.wait_for_text("Study List")
    found = context.cookies()
    context.close()
    return found


def series_url(viewer, dataset):
    study, series = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    return f"{viewer.site.url}/viewer?StudyInstanceUIDs={study}&SeriesInstanceUIDs={series}"


def names_of(dataset):
    """A patient's name as OHIF shows it."""
    return ", ".join(str(dataset.get("PatientName", "")).split("^"))


def subjects(answers):
    """Who sent requests, by their tokens."""
    tokens = [each.authorization.removeprefix("Bearer ") for each in answers]
    return {jwt.decode(each, options={"verify_signature": False})["sub"] for each in tokens}


def expected_pixels(dataset, frame_number, *, is_rescaled):
    """The pixels of a frame, decoded by pydicom, as real world values if the viewer rescales them (PS3.3, C.11.1)."""
    pixels = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[frame_number - 1]
    if not is_rescaled:
        return pixels
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    rescaled = pixels * slope + intercept
    is_whole = slope.is_integer() and intercept.is_integer()
    return rescaled.astype(np.int16 if is_whole else np.float32)


def expected_picture(pixels, shown):
    """The picture that a viewport should show: a linear window, then inverted or not."""
    if shown["isColor"]:
        grey = pixels
    else:
        lower, upper = shown["voiRange"]["lower"], shown["voiRange"]["upper"]
        grey = np.clip((pixels.astype(float) - lower) / (upper - lower), 0, 1) * 255
        grey = 255 - grey if shown["invert"] else grey
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def assert_canvas_shows(pixels, shown):
    canvas = Image.open(io.BytesIO(base64.b64decode(shown["picture"].partition(",")[2]))).convert("RGB")
    box = [round(each) for each in shown["box"]]
    drawn = np.asarray(canvas.crop(box), float)
    wanted = expected_picture(pixels, shown).resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)
    assert np.asarray(wanted).std() > 10
    assert np.abs(drawn - np.asarray(wanted, float)).mean() < MAX_GREY_DIFFERENCE


def assert_answers_are_good(tab, *, accept=AS_STORED):
    """Every request succeeded, asked for what OHIF is known to ask for, and asked for each frame once."""
    assert [each for each in tab.failures if "/_aws/" in each[0] or "127.0.0.1" in each[0]] == []
    api = [each for each in tab.answers if each.is_api]
    assert {each.status for each in tab.answers} <= {200, 303}
    assert subjects(api) == {"radiologist"}
    assert [each.authorization for each in tab.from_s3] == [None] * len(tab.from_s3)
    assert {each.accept for each in tab.frames} == {accept}
    assert {each.accept for each in api if "/frames/" not in each.path} == {"application/dicom+json"}
    paths = [each.path for each in tab.frames]
    assert sorted(paths) == sorted(set(paths))


# Login and study list


def test_person_logs_in_and_finds_every_study(viewer, new_tab):
    tab = new_tab()
    tab.page.goto(viewer.site.url)
    log_in(tab, "radiologist")
    tab.wait_for_text("Large, Images")
    names = {each.StudyInstanceUID: names_of(each) for each in viewer.datasets.values()}
    rows = tab.page.locator("tbody tr").all()
    assert sorted(each.locator("td").first.inner_text() for each in rows) == sorted(names.values())
    (search,) = tab.answers
    assert (search.path.rpartition("/")[2], search.status, search.accept) == ("studies", 200, "application/dicom+json")
    assert search.query["includefield"] == ["00081030,00080060,00080090,00100030"]
    assert subjects(tab.answers) == {"radiologist"}


def test_reload_does_not_ask_for_the_name_again_until_the_person_logs_out(viewer, new_tab):
    alice, bob = new_tab(), new_tab()
    for tab, name in ((alice, "alice"), (bob, "bob")):
        tab.page.goto(viewer.site.url)
        log_in(tab, name)
        tab.wait_for_text("Large, Images")
    for tab in (alice, bob):
        tab.answers.clear()
        tab.page.reload()
        tab.wait_for_text("Large, Images")
    assert [subjects(tab.answers) for tab in (alice, bob)] == [{"alice"}, {"bob"}]
    alice.page.goto(f"{viewer.site.url}/logout?redirect_uri={viewer.site.url}/")
    alice.page.get_by_label("Name").wait_for()
    bob.answers.clear()
    bob.page.reload()
    bob.wait_for_text("Large, Images")
    assert subjects(bob.answers) == {"bob"}


# Images


@pytest.mark.parametrize(
    ("name", "is_rescaled"),
    [("CT_small.dcm", True), ("MR2_UNCR.dcm", True), ("examples_rgb_color.dcm", False)],
    ids=["CT", "MR", "colour"],
)
def test_image_has_the_pixels_of_its_file(viewer, new_tab, cookies, name, is_rescaled):
    dataset = viewer.datasets[name]
    tab = new_tab(cookies)
    tab.page.goto(series_url(viewer, dataset))
    shown = tab.wait_for_image()
    pixels = expected_pixels(dataset, 1, is_rescaled=is_rescaled)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert tab.from_s3 == []


def test_radiograph_above_the_inline_limit_comes_from_s3(viewer, new_tab, cookies):
    dataset = viewer.datasets["mammogram-sized.dcm"]
    tab = new_tab(cookies)
    tab.page.goto(series_url(viewer, dataset))
    shown = tab.wait_for_image()
    pixels = expected_pixels(dataset, 1, is_rescaled=False)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert [each.status for each in tab.frames] == [303]
    assert [each.status for each in tab.from_s3] == [200]


def test_lossy_colour_frame_has_the_pixels_of_its_file(viewer, new_tab, cookies):
    dataset = viewer.datasets["color3d_jpeg_baseline.dcm"]
    tab = new_tab(cookies)
    tab.page.goto(series_url(viewer, dataset))
    shown = tab.wait_for_image("/frames/1")
    assert_canvas_shows(expected_pixels(dataset, 1, is_rescaled=False), shown)
    assert_answers_are_good(tab)


def test_every_frame_of_a_multiframe_image_is_read_once(viewer, new_tab, cookies):
    dataset = viewer.datasets["emri_small.dcm"]
    count = int(dataset.NumberOfFrames)
    tab = new_tab(cookies)
    tab.page.goto(series_url(viewer, dataset))
    tab.wait_for_image("/frames/1")
    for number in (1, count):
        tab.page.evaluate(f"index => {VIEWPORT}.setImageIdIndex(index)", number - 1)
        shown = tab.wait_for_image(f"/frames/{number}")
        pixels = expected_pixels(dataset, number, is_rescaled=False)
        assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    tab.page.wait_for_function(
        "count => window.cornerstone.cache.getImageLoadObject && "
        f"{VIEWPORT}.getImageIds().filter(id => window.cornerstone.cache.getImage(id)).length === count",
        arg=count,
        timeout=MAX_PAGE_SECONDS * 1000,
    )
    assert_answers_are_good(tab)
    assert sorted(int(each.path.rpartition("/")[2]) for each in tab.frames) == list(range(1, count + 1))


def test_uncompressed_pixels_are_drawn_if_the_viewer_asks_for_them(viewer, new_tab, cookies):
    dataset = viewer.datasets["CT_small.dcm"]
    tab = new_tab(cookies)
    script = viewer.site.configuration_script().decode()
    change = f"window.config.dataSources[0].configuration.acceptHeader = {json.dumps([DECODED])};"
    tab.page.route(
        "**/app-config.js", lambda route: route.fulfill(body=script + change, content_type="text/javascript")
    )
    tab.page.goto(series_url(viewer, dataset))
    shown = tab.wait_for_image()
    pixels = expected_pixels(dataset, 1, is_rescaled=True)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab, accept=DECODED)


def test_large_frame_is_drawn_over_a_slow_line(viewer, new_tab, cookies):
    """OHIF decodes a frame while it arrives. A wrong form of answer fails only where that takes a while."""
    first, second = (viewer.datasets[name] for name in SERIES)
    tab = new_tab(cookies)
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Network.enable")

    def slow_down(route):
        session.send("Network.emulateNetworkConditions", TEN_MEGABITS)
        route.continue_()

    # Only the frames are slow, not the application.
    tab.page.route("**/frames/**", slow_down)
    started = time.monotonic()
    tab.page.goto(series_url(viewer, first))
    shown = tab.wait_for_image()
    seconds = time.monotonic() - started
    pixels = expected_pixels(first, 1, is_rescaled=False)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert {each.resource for each in tab.frames if first.SOPInstanceUID in each.path} == {"fetch"}
    size = next(each.size for each in viewer.frames if each.sop_instance_uid == first.SOPInstanceUID)
    assert seconds > size / TEN_MEGABITS["downloadThroughput"]
    assert any(second.SOPInstanceUID in each.path for each in tab.frames)
