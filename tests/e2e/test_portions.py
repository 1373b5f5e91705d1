"""Resolutions and byte ranges of imported DICOM files over HTTP, with independent clients and decoders."""

from __future__ import annotations

import subprocess

import imagecodecs
import numpy as np
import pydicom
import pytest
import requests

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from tests.e2e.test_large_frames import MIB, generated


def first_frame(imported, name):
    uid = pydicom.dcmread(imported.folder / name, stop_before_pixels=True).SOPInstanceUID
    return next(frame for frame in imported.frames if frame.sop_instance_uid == uid)


@pytest.fixture(params=["693_UNCR.dcm", "RG1_UNCR.dcm", "mammogram-sized.dcm", "examples_rgb_color.dcm"])
def frame(request, imported):
    return first_frame(imported, request.param)


@pytest.fixture
def whole(frame, health_imaging):
    return health_imaging.get_image_frame(
        datastoreId=frame.datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )["imageFrameBlob"].read()


@pytest.mark.parametrize("query", [{"resolution": 0}, {"size": 128}, {"size": 512}])
def test_resolution_matches_the_pixels_of_the_whole_frame(api, frame, whole, query):
    answer = api.get(frame, params=query)
    skip = int(answer.headers["Framegate-Skip-Decompositions"])
    pixels = imagecodecs.htj2k_decode(answer.content, skipres=skip)

    assert answer.status_code == 200
    assert np.array_equal(pixels, imagecodecs.htj2k_decode(whole, skipres=skip))
    assert pixels.shape[:2] == (int(answer.headers["Framegate-Rows"]), int(answer.headers["Framegate-Columns"]))
    if "size" in query:
        assert max(pixels.shape[:2]) >= min(query["size"], max(imagecodecs.htj2k_decode(whole).shape))
    assert len(answer.content) <= len(whole)


def test_thumbnail_of_a_mammogram_has_kilobytes(api, imported):
    frame = first_frame(imported, "mammogram-sized.dcm")
    answer = api.get(frame, params={"size": 128})

    assert (answer.status_code, answer.headers["Framegate-Whole-Frame"]) == (200, "false")
    assert len(answer.content) < frame.size / 200


def test_levels_of_aws_sample_clients_join_to_the_frame(api, imported, frame, whole):
    count = int(api.get(frame, params={"resolution": 0}).headers["Framegate-Resolutions"])
    url = api.get_image_frame_url(frame)
    body = {"imageFrameInformation": {"imageFrameId": frame.image_frame_id}}
    levels = [
        api.request("POST", f"{url}?startLevel={level}&endLevel={level}", json=body)
        for level in range(count if frame.size < 4 * MIB else count - 2)
    ]
    joined = b"".join(level.content for level in levels)

    assert whole.startswith(joined)
    assert frame.size >= 4 * MIB or joined == whole


def test_curl_gets_a_range(api, imported, tmp_path):
    frame = first_frame(imported, "693_UNCR.dcm")
    command = ["curl", "-sS", "--aws-sigv4", f"aws:amz:{REGION}:execute-api", "--user", f"{ACCESS_KEY}:{SECRET_KEY}"]
    target = tmp_path / "range"
    command += ["-r", "100-299", "-o", str(target), "-w", "%{http_code}", api.frame_url(frame)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == "206"
    assert target.read_bytes() == api.get(frame).content[100:300]


@pytest.mark.parametrize("value", ["bytes=0-99", "bytes=5000-9999", "bytes=-100", "bytes=70000-", "bytes=999999999-"])
def test_range_matches_s3s_response_for_the_same_frame(api, imported, value):
    frame = first_frame(imported, "693_UNCR.dcm")
    location = api.get(frame, params={"delivery": "url"}).headers["Location"]
    ours = api.get(frame, headers={"Range": value})
    of_s3 = requests.get(location, headers={"Range": value}, timeout=60)

    assert ours.status_code == of_s3.status_code
    assert ours.headers.get("Content-Range") == of_s3.headers.get("Content-Range")
    assert ours.status_code == 416 or ours.content == of_s3.content


def test_ranges_at_both_ends_of_a_large_frame_are_delivered(api, emulator, datastore_id):
    frame = emulator.add_frame(datastore_id, generated(30), "video/mp4")
    whole = requests.get(api.get(frame, params={"delivery": "url"}).headers["Location"], timeout=60).content
    for value, expected in {
        "bytes=0-1048575": whole[:MIB],
        "bytes=-1048576": whole[-MIB:],
        f"bytes={20 * MIB}-{20 * MIB + 99}": whole[20 * MIB :][:100],
    }.items():
        answer = api.get(frame, headers={"Range": value})
        assert (answer.status_code, answer.content == expected) == (206, True)
    assert api.get(frame, headers={"Range": f"bytes=0-{20 * MIB}"}).status_code == 303


def test_log_has_the_bytes_read_from_healthimaging(api, imported, log_lines):
    frame = first_frame(imported, "mammogram-sized.dcm")
    answer = api.get(frame, params={"size": 512})
    lines = [
        each for each in log_lines() if each.get("resolution") is not None and each["bytes"] == len(answer.content)
    ]

    assert lines[-1]["upstream_bytes"] <= len(answer.content) + 64 * 1024
