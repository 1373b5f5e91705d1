"""OHIF, unmodified, in Chromium: log in, find studies, and see the pixels of the files."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import numpy as np
import pytest
from PIL import Image

from local.cloud import LocalCloudError
from local.samples import MAMMOGRAM
from local.viewer import ohif
from local.viewer.chromium import TEN_MEGABITS
from tests import npm
from tests.e2e.chromium import MAX_PAGE_SECONDS, chromium, needs_chromium
from tests.e2e.viewer_samples import SERIES

pytestmark = needs_chromium

PICTURES = ("/thumbnail", "/rendered")
AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
DECODED = "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"

WINDOW = {"width": 1280, "height": 800}

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


THUMBNAIL = """() => {
  const image = [...document.images].find(each => each.src.startsWith('blob:') && each.naturalWidth > 0);
  if (!image) return null;
  const canvas = Object.assign(document.createElement('canvas'), {
    width: image.naturalWidth, height: image.naturalHeight,
  });
  canvas.getContext('2d').drawImage(image, 0, 0);
  return canvas.toDataURL();
}"""
"""The picture of a series in the list of series, in the size in which it arrived."""


SETTINGS = """(() => {
  let config;
  Object.defineProperty(window, 'config', {
    get: () => config,
    set: value => { Object.assign(value.dataSources[0].configuration, %s); config = value; },
  });
})()"""
"""Changes the configuration of OHIF when its file assigns it."""


@pytest.fixture(scope="module", autouse=True)
def application():
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so OHIF cannot be downloaded")
    try:
        ohif.download()
    except LocalCloudError as error:
        if npm.is_unreachable(str(error)):
            pytest.skip("npm's registry cannot be reached, so OHIF cannot be downloaded")
        raise


@pytest.fixture(scope="module")
def browser(application):
    with chromium() as running:
        yield running


@dataclass
class Tab:
    """A page, and the requests of its scripts to the API and to S3."""

    page: object
    site_url: str
    answers: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    @property
    def frames(self):
        return [each for each in self.answers if "/frames/" in each.path]

    @property
    def from_s3(self):
        return [each for each in self.answers if not each.is_api]

    def log_in(self, name):
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_role("button", name="Log in").click()

    def wait_for_study_list(self):
        self.page.get_by_text("Large, Images").first.wait_for(timeout=MAX_PAGE_SECONDS * 1000)

    def open_series(self, dataset):
        """Return to the study list, and open a series, without loading the application again if it is open."""
        if self.page.url.startswith(self.site_url):
            self._navigate("/")
        else:
            self.page.goto(self.site_url)
        self.wait_for_study_list()
        self.answers.clear()
        self.failures.clear()
        self._navigate(path_of(dataset))

    def configure(self, **settings):
        """Change settings of OHIF's data source, before it is loaded."""
        # Playwright's routes would switch the browser's cache off.
        self.page.add_init_script(SETTINGS % json.dumps(settings))

    def _navigate(self, path):
        # As the buttons for back and forward do.
        self.page.evaluate(
            "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path
        )

    def wait_for_frame(self, dataset, number=1):
        """Wait until the viewport shows a whole frame, and return what it shows."""
        shown = f"{dataset.SOPInstanceUID}/frames/{number}"
        self.page.wait_for_function(IS_COMPLETE, arg=shown, timeout=MAX_PAGE_SECONDS * 1000)
        return self.page.evaluate(SHOWN)


@pytest.fixture(scope="module")
def tab(browser, viewer):
    """The tab of a person who logs in, and then opens one study after the other."""
    context = browser.new_context(viewport=WINDOW)
    opened = _tab(context, viewer)
    opened.page.goto(opened.site_url)
    opened.log_in("radiologist")
    opened.wait_for_study_list()
    yield opened
    context.close()


@pytest.fixture
def other(browser, viewer):
    """The tab of another person, in another browser."""
    context = browser.new_context(viewport=WINDOW)
    yield _tab(context, viewer)
    context.close()


@pytest.fixture
def new_tab(tab, viewer):
    """Another tab of the same person, whose browser has the application in its cache."""
    # Drawing in a tab in the background takes processor time, too.
    tab.page.goto("about:blank")
    opened = _tab(tab.page.context, viewer)
    yield opened
    opened.page.close()


def _tab(context, viewer):
    tab = Tab(context.new_page(), viewer.site.url)
    api = urlsplit(viewer.deployment.api_url)
    s3 = api.netloc.replace("localhost", "127.0.0.1")

    def note(request, status):
        url = urlsplit(request.url)
        if url.netloc in (api.netloc, s3):
            tab.answers.append(_answer(request, url, status, url.netloc == api.netloc))

    tab.page.on("response", lambda response: note(response.request, response.status))
    tab.page.on("requestfailed", lambda request: tab.failures.append((request.url, request.failure)))
    return tab


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


def path_of(dataset):
    """The page that shows a series."""
    study, series = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    return f"/viewer?StudyInstanceUIDs={study}&SeriesInstanceUIDs={series}"


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
    others = [each for each in api if "/frames/" not in each.path]
    pictures = [each for each in others if each.path.endswith(PICTURES)]
    assert {each.accept for each in others if each not in pictures} == {"application/dicom+json"}
    assert {each.accept for each in pictures} <= {"image/jpeg"}
    paths = [each.path for each in tab.frames]
    assert sorted(paths) == sorted(set(paths))


# Login and study list


def test_study_list_has_every_study_once_a_person_has_logged_in(viewer, tab):
    names = {each.StudyInstanceUID: names_of(each) for each in viewer.datasets.values()}
    # The first row has the filters.
    rows = tab.page.locator("tbody tr").all()[1:]
    assert sorted(each.locator("td").first.inner_text() for each in rows) == sorted(names.values())
    (search,) = tab.answers
    assert (search.path.rpartition("/")[2], search.status, search.accept) == ("studies", 200, "application/dicom+json")
    assert search.query["includefield"] == ["00081030,00080060,00080090,00100030"]
    assert subjects(tab.answers) == {"radiologist"}


def test_reload_does_not_ask_for_the_name_again_until_the_person_logs_out(tab, other):
    other.page.goto(other.site_url)
    other.log_in("student")
    other.wait_for_study_list()
    for each in (tab, other):
        each.answers.clear()
        each.page.reload()
        each.wait_for_study_list()
    assert [subjects(each.answers) for each in (tab, other)] == [{"radiologist"}, {"student"}]
    other.page.goto(f"{other.site_url}/logout?redirect_uri={quote(other.site_url)}/")
    other.page.get_by_label("Name").wait_for(timeout=MAX_PAGE_SECONDS * 1000)
    # The other person is still logged in.
    tab.answers.clear()
    tab.page.reload()
    tab.wait_for_study_list()
    assert subjects(tab.answers) == {"radiologist"}


# Images


@pytest.mark.parametrize(
    ("name", "is_rescaled"),
    [("CT_small.dcm", True), ("MR2_UNCR.dcm", True), ("examples_rgb_color.dcm", False)],
    ids=["CT", "MR", "colour"],
)
def test_image_has_the_pixels_of_its_file(viewer, tab, name, is_rescaled):
    dataset = viewer.datasets[name]
    tab.open_series(dataset)
    shown = tab.wait_for_frame(dataset)
    pixels = expected_pixels(dataset, 1, is_rescaled=is_rescaled)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert tab.from_s3 == []


def test_radiograph_above_the_inline_limit_comes_from_s3(viewer, tab):
    dataset = viewer.datasets[MAMMOGRAM]
    tab.open_series(dataset)
    shown = tab.wait_for_frame(dataset)
    pixels = expected_pixels(dataset, 1, is_rescaled=False)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert [each.status for each in tab.frames] == [303]
    assert [each.status for each in tab.from_s3] == [200]


def test_jpeg_baseline_has_the_pixels_of_its_file(viewer, tab):
    dataset = viewer.datasets["color3d_jpeg_baseline.dcm"]
    tab.open_series(dataset)
    shown = tab.wait_for_frame(dataset)
    assert_canvas_shows(expected_pixels(dataset, 1, is_rescaled=False), shown)
    assert_answers_are_good(tab)


def test_every_frame_of_a_multiframe_image_is_read_once(viewer, tab):
    dataset = viewer.datasets["emri_small.dcm"]
    count = int(dataset.NumberOfFrames)
    tab.open_series(dataset)
    tab.wait_for_frame(dataset)
    for number in (1, count):
        tab.page.evaluate(f"index => {VIEWPORT}.setImageIdIndex(index)", number - 1)
        shown = tab.wait_for_frame(dataset, number)
        pixels = expected_pixels(dataset, number, is_rescaled=False)
        assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    tab.page.wait_for_function(
        f"count => {VIEWPORT}.getImageIds().filter(id => window.cornerstone.cache.getImage(id)).length === count",
        arg=count,
        timeout=MAX_PAGE_SECONDS * 1000,
    )
    assert_answers_are_good(tab)
    # The frames of the series before may still be on their way.
    paths = [each.path for each in tab.frames if dataset.SOPInstanceUID in each.path]
    assert sorted(int(path.rpartition("/")[2]) for path in paths) == list(range(1, count + 1))


def test_uncompressed_pixels_are_drawn_if_the_viewer_asks_for_them(viewer, new_tab):
    dataset, tab = viewer.datasets["CT_small.dcm"], new_tab
    tab.configure(acceptHeader=[DECODED])
    tab.page.goto(tab.site_url + path_of(dataset))
    shown = tab.wait_for_frame(dataset)
    pixels = expected_pixels(dataset, 1, is_rescaled=True)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab, accept=DECODED)


@pytest.mark.parametrize("rendering", ["thumbnail", "rendered"])
def test_list_of_series_shows_the_pictures_that_the_gateway_draws(viewer, new_tab, rendering):
    dataset, tab = viewer.datasets["CT_small.dcm"], new_tab
    tab.configure(thumbnailRendering=rendering)
    tab.page.goto(tab.site_url + path_of(dataset))
    tab.wait_for_frame(dataset)
    picture = tab.page.wait_for_function(THUMBNAIL, timeout=MAX_PAGE_SECONDS * 1000).json_value()
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("L"), float)
    values = dataset.pixel_array.astype(float)
    expected = (values - values.min()) / np.ptp(values) * 255
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < MAX_GREY_DIFFERENCE
    (answer,) = (each for each in tab.answers if each.path.endswith(f"/{rendering}"))
    assert (answer.status, answer.accept, answer.query["viewport"]) == (200, "image/jpeg", ["256,256"])
    assert_answers_are_good(tab)


def test_large_frame_is_drawn_over_a_slow_line(viewer, new_tab):
    """OHIF decodes a frame while it arrives. A wrong form of answer fails only where that takes a while."""
    first, tab = viewer.datasets[SERIES[0]], new_tab
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Network.enable")
    # The browser has the application in its cache, so only OHIF's decoder and the images are slow.
    tab.page.goto(tab.site_url, wait_until="networkidle")
    session.send("Network.emulateNetworkConditions", TEN_MEGABITS)
    started = time.monotonic()
    tab.page.goto(tab.site_url + path_of(first))
    shown = tab.wait_for_frame(first)
    seconds = time.monotonic() - started
    pixels = expected_pixels(first, 1, is_rescaled=False)
    assert shown["crc32"] == zlib.crc32(pixels.tobytes())
    assert_canvas_shows(pixels, shown)
    assert_answers_are_good(tab)
    assert {each.resource for each in tab.frames if first.SOPInstanceUID in each.path} == {"fetch"}
    size = next(each.size for each in viewer.frames if each.sop_instance_uid == first.SOPInstanceUID)
    assert seconds > size / TEN_MEGABITS["downloadThroughput"]
