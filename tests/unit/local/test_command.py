"""``python -m local.health_imaging`` runs the emulator from the command line."""

from __future__ import annotations

import socket
import subprocess
import sys

import imagecodecs
import numpy as np
import pydicom
import pytest
from botocore.exceptions import ClientError

from tests.unit.local.emulated import new_client, path_of


def test_command_serves_the_files_of_a_folder(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(path_of("CT_small.dcm").read_bytes())
    command = [sys.executable, "-m", "local.health_imaging", "--port", "0", "--dicom", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(7)]
        url = lines[0].split()[2]
        words = lines[6].split()
        address = {words[at]: words[at + 1] for at in range(2, len(words) - 1)}
        answer = new_client(url).get_image_frame(
            datastoreId=address["--datastore-id"],
            imageSetId=address["--image-set-id"],
            imageFrameInformation={"imageFrameId": address["--image-frame-information"].partition("=")[2]},
        )
        pixels = imagecodecs.htj2k_decode(answer["imageFrameBlob"].read())
        np.testing.assert_array_equal(pixels, pydicom.dcmread(tmp_path / "ct.dcm").pixel_array)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_command_reports_a_wrong_argument_in_one_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "local.health_imaging", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run("--port", port)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"Port {port} cannot be used" in refused.stderr
    assert "is not a folder" in run("--dicom", str(tmp_path / "missing")).stderr


def test_command_enforces_the_documented_quotas():
    command = [sys.executable, "-m", "local.health_imaging", "--port", "0", "--throttles", "documented"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        boto = new_client(process.stdout.readline().split()[2])
        boto.create_datastore()
        with pytest.raises(ClientError, match="ThrottlingException"):
            boto.create_datastore()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
