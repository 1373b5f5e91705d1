"""Cornerstone3D, unmodified, in Chromium: its loader reads frames by UID and by id, and parts of them."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests import npm
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.conftest import Api

pytestmark = needs_chromium

SOURCE = Path(__file__).parent / "cornerstone"
# Parts of dcmjs and of the codecs that only run in Node.js.
OPTIONS = (
    *("--bundle", "--format=esm", "--platform=browser", "--target=es2022", "--minify", "--log-level=error"),
    *(f"--external:{name}" for name in ("fs", "path", "module", "crypto", "worker_threads", "url")),
    f"--alias:xmlbuilder2={SOURCE / 'absent.js'}",
)
CODECS = ("codec-openjph", "codec-openjpeg", "codec-libjpeg-turbo-8bit", "codec-charls")
HTML = '<!doctype html><meta charset="utf-8"><title>Cornerstone3D</title><script type="module" src="page.js"></script>'

START_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The page and Cornerstone3D's decoder, bundled as a web application does."""
    modules = npm.install(SOURCE)
    folder = tmp_path_factory.mktemp("cornerstone")
    worker = modules / "@cornerstonejs/dicom-image-loader/dist/esm/decodeImageFrameWorker.js"
    for entry in (SOURCE / "page.js", worker):
        subprocess.run(
            [modules / ".bin" / "esbuild", entry, *OPTIONS, f"--outfile={folder / entry.name}"], check=True, cwd=SOURCE
        )
    for codec in CODECS:
        for path in (modules / "@cornerstonejs" / codec / "dist").glob("*.wasm"):
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "index.html").write_text(HTML)
    return folder


@pytest.fixture(scope="module")
def page(bundle, viewer):
    """The page, on the viewer's origin, with the token of a person who may read the first data store."""
    token = viewer.token("developer", viewer.datastore_ids[0])
    base = f"{viewer.site.url}/cornerstone/"
    with chromium() as browser:
        context = browser.new_context()
        # Chromium takes a page that Playwright serves for a public one, which may not call loopback without permission.
        context.grant_permissions(["local-network-access"])
        context.route(f"{base}**", lambda route: route.fulfill(path=bundle / route.request.url.removeprefix(base)))
        opened = context.new_page()
        opened.goto(f"{base}index.html")
        opened.wait_for_function("window.ready")
        opened.evaluate("token => start(token)", token)
        yield opened


@pytest.fixture(scope="module")
def radiograph(page, viewer):
    return Image(page, viewer, "RG1_UNCR.dcm")


class Image:
    """A file's URLs, metadata, stored frame and pixels."""

    def __init__(self, page, viewer, name):
        dataset = viewer.datasets[name]
        self.pixels = dataset.pixel_array
        frame = next(each for each in viewer.frames if each.sop_instance_uid == dataset.SOPInstanceUID)
        self.codestream = viewer.cloud.health_imaging.content(frame)
        series = f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        self.by_uid = f"{viewer.site.dicomweb_url}/{series}/instances/{dataset.SOPInstanceUID}/frames/1"
        self.by_id = Api(viewer.deployment.api_url).frame_url(frame)
        metadata = page.evaluate("url => metadataOf(url)", f"{viewer.site.dicomweb_url}/{series}/metadata")
        (self.metadata,) = (each for each in metadata if each["00080018"]["Value"] == [dataset.SOPInstanceUID])

    def url(self, kind):
        return {"UID": self.by_uid, "id": self.by_id}[kind]

    def resolution(self, skipped):
        """The pixels of the frame without its largest resolutions.

        Small resolutions can fall below 0, where Cornerstone3D's codec returns 0 and this one wraps around.
        """
        pixels = imagecodecs.htj2k_decode(self.codestream, skipres=skipped)
        assert self.pixels.max() < 1 << 15
        return np.maximum(pixels.view(np.int16), 0)


def load_codestream(page, url, image, **options):
    return page.evaluate(
        "([url, metadata, options]) => loadCodestream(url, metadata, options)", [url, image.metadata, options]
    )


def assert_pixels(loaded, expected):
    assert (loaded["rows"], loaded["columns"]) == expected.shape[:2]
    # Cornerstone3D chooses the smallest type that holds the values, such as Uint16Array.
    same = expected.astype(loaded["type"].removesuffix("Array").lower())
    assert np.array_equal(same, expected)
    assert loaded["crc32"] == zlib.crc32(same.tobytes())


@pytest.mark.parametrize("kind", ["UID", "id"])
@pytest.mark.parametrize("name", ["CT_small.dcm", "RG1_UNCR.dcm", "examples_rgb_color.dcm", "mammogram-sized.dcm"])
def test_own_loader_reads_frames(page, viewer, name, kind):
    image = Image(page, viewer, name)
    loaded = page.evaluate("([url, metadata]) => loadWadors(url, metadata)", [image.url(kind), image.metadata])
    rescaled = image.pixels - 1024 if name.startswith("CT") else image.pixels
    assert_pixels(loaded, rescaled)


@pytest.mark.parametrize("kind", ["UID", "id"])
def test_byte_ranges_are_a_smaller_image_first_and_then_the_whole(page, radiograph, kind):
    url = radiograph.url(kind)
    first, rest = f"bytes=0-{START_BYTES - 1}", f"bytes={START_BYTES}-"
    start = load_codestream(page, url, radiograph, ranges=[first], decodeLevel=4)
    assert start["bytes"] == START_BYTES
    assert_pixels(start, radiograph.resolution(4))
    whole = load_codestream(page, url, radiograph, ranges=[first, rest], decodeLevel=0)
    assert_pixels(whole, radiograph.pixels)


@pytest.mark.parametrize("kind", ["UID", "id"])
@pytest.mark.parametrize("query", ["size=900", "size=100", "resolution=2"])
def test_resolutions_tell_the_page_how_to_decode_them(page, radiograph, kind, query):
    loaded = load_codestream(page, f"{radiograph.url(kind)}?{query}", radiograph)
    expected = radiograph.resolution(int(loaded["skipped"]))
    assert loaded["contentType"] == "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202"
    assert loaded["bytes"] < len(radiograph.codestream) / 2
    assert expected.shape[0] < radiograph.pixels.shape[0]
    assert_pixels(loaded, expected)
