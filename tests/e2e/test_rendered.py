"""Pictures through the deployed stack: by curl as in a work list, with dicomweb-client, and by frame id."""

from __future__ import annotations

import io
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from PIL import Image

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.signing import SigV4
from tests.e2e.conftest import ORIGIN, log_reader
from tests.e2e.watching import wait_for


@pytest.fixture(scope="module")
def datasets(imported):
    with warnings.catch_warnings(action="ignore"):
        read = [pydicom.dcmread(path) for path in sorted(imported.folder.iterdir())]
    return [dataset for dataset in read if "PixelData" in dataset]


@pytest.fixture(scope="module")
def ct(datasets):
    return next(dataset for dataset in datasets if dataset.get("Modality") == "CT")


@pytest.fixture(scope="module")
def base(deployment, imported):
    return f"{deployment.api_url}/datastore/{imported.datastore_id}"


@pytest.fixture
def render_log(cloud):
    """Reads the log lines of the render function from now on, as JSON objects."""
    return log_reader(cloud, "RenderFunction")


def series_path(dataset):
    return f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"


def instance_path(dataset):
    return f"{series_path(dataset)}/instances/{dataset.SOPInstanceUID}"


def windowed(dataset):
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return np.clip((values - 39.5) / 399 + 0.5, 0, 1) * 255


def test_dicomweb_client_retrieves_a_rendered_instance_and_frame(base, ct):
    session = requests.Session()
    session.auth = SigV4(ACCESS_KEY, SECRET_KEY, REGION)
    client = DICOMwebClient(url=base, session=session)
    uids = (ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID)
    content = client.retrieve_instance_rendered(*uids, media_types=("image/png",), params={"window": "40,400,linear"})
    assert np.abs(np.asarray(Image.open(io.BytesIO(content))).astype(int) - windowed(ct)).max() <= 1
    content = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[1], media_types=("image/jpeg",))
    assert Image.open(io.BytesIO(content)).size == (ct.Columns, ct.Rows)


@pytest.mark.parametrize("level", ["study", "series", "instance", "frame"])
def test_curl_gets_a_thumbnail_as_weasis_asks_for_it(base, ct, tmp_path, level):
    paths = {
        "study": f"studies/{ct.StudyInstanceUID}",
        "series": series_path(ct),
        "instance": instance_path(ct),
        "frame": f"{instance_path(ct)}/frames/1",
    }
    target = tmp_path / "thumbnail.jpg"
    command = ["curl", "--fail", "--silent", "--show-error", "--aws-sigv4", f"aws:amz:{REGION}:execute-api"]
    command += ["--user", f"{ACCESS_KEY}:{SECRET_KEY}", "-H", "Accept: image/jpeg", "-o", str(target)]
    subprocess.run([*command, f"{base}/{paths[level]}/thumbnail?viewport=64,64"], check=True, timeout=180)
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 64))


def test_browser_gets_thumbnails_of_every_series(api, base, datasets):
    for dataset in datasets[:12]:
        answer = api.request(
            "GET",
            f"{base}/{series_path(dataset)}/thumbnail?viewport=128,128",
            headers={"Accept": "image/jpeg", "Origin": ORIGIN},
        )
        assert answer.status_code == 200, (answer.text, dataset.filename)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert max(Image.open(io.BytesIO(answer.content)).size) <= 128


def test_picture_of_a_frame_by_id_is_not_modified_the_second_time(api, imported, render_log):
    frame = next(iter(imported.frames))
    url = f"{api.frame_url(frame)}/rendered?viewport=32,32"
    first = api.request("GET", url)
    again = api.request("GET", url, headers={"If-None-Match": first.headers["ETag"]})
    head = api.request("HEAD", url)
    assert (first.status_code, again.status_code, head.status_code) == (200, 304, 200)

    def deliveries():
        lines = [line for line in render_log() if line.get("image_frame_id") == frame.image_frame_id]
        return [line["delivery"] for line in lines if line["message"] == "request answered"]

    # Each of the requests may have been answered by another environment, and their logs have no common order.
    assert wait_for(lambda: len(found := deliveries()) == 3 and sorted(found)) == [
        "not-modified",
        "rendered",
        "rendered",
    ]


def test_frame_that_is_no_image_is_refused_and_other_methods_too(api, emulator, datastore_id):
    frame = emulator.add_frame(datastore_id, b"\x00\x00\x00\x20ftyp", "video/mp4")
    answer = api.request("GET", f"{api.frame_url(frame)}/rendered")
    assert (answer.status_code, "video/mp4" in answer.text) == (406, True)
    assert api.request("POST", f"{api.frame_url(frame)}/rendered").status_code == 405
