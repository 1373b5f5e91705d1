"""Runs `make smoke` against the local cloud, as a deployer runs it against AWS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from framegate.healthimaging.regions import REGIONS
from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.health_imaging import Fault

PROJECT = Path(__file__).parent.parent.parent

NOT_IN_AN_EMULATED_CLOUD = {"SnapStart", "TLS", "access log", "pre-signed URL of mismatched/…"}
LINES = 46


@pytest.fixture
def smoke(cloud, deployment):
    """Run the command against the deployment; return the process and its lines as (outcome, name, detail)."""

    def run(*arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        done = subprocess.run(
            [sys.executable, "-m", "smoke", "--api-url", deployment.api_url, *arguments],
            cwd=PROJECT,
            env={
                **kept,
                "AWS_ENDPOINT_URL": cloud.endpoint,
                "AWS_ENDPOINT_URL_MEDICAL_IMAGING": cloud.health_imaging.url,
                "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        lines = re.findall(r"^(pass|FAIL|skip)  (.{48}) +[\d.]+ s  (.*)$", done.stdout, re.MULTILINE)
        return done, [(outcome, name.strip(), detail) for outcome, name, detail in lines]

    return run


def test_every_check_passes_or_is_skipped_because_it_needs_aws(smoke, s3, deployment, imported, emulator):
    # The command would choose the smallest image set, whose frames are no images here.
    uids = {str(pydicom.dcmread(path).SOPInstanceUID) for path in imported.folder.glob("CT*.dcm")}
    frame = next(each for each in imported.frames if each.sop_instance_uid in uids)
    done, lines = smoke("--image-set", f"{frame.datastore_id}/{frame.image_set_id}")
    assert [line for line in lines if line[0] == "FAIL"] == [], done.stdout + done.stderr
    assert done.returncode == 0
    assert {name for outcome, name, _ in lines if outcome == "skip"} == NOT_IN_AN_EMULATED_CLOUD
    assert len(lines) == LINES
    assert done.stdout.splitlines()[-1] == "42 passed, 0 failed, 4 skipped"
    for prefix in ("export-requests/smoke-", "exports/requests/smoke-"):
        assert s3.list_objects_v2(Bucket=deployment.frame_bucket, Prefix=prefix)["KeyCount"] == 0, "leftovers"


def test_wrong_response_fails_its_line_and_the_command(smoke, imported, emulator):
    emulator.faults.arm(Fault(error="AccessDeniedException"))
    # The command chooses an image set itself.
    done, lines = smoke()
    assert done.returncode == 1
    assert "FAIL" in {outcome for outcome, _, _ in lines}


def test_missing_stack_fails_one_line_and_skips_the_rest(smoke):
    done, lines = smoke("--stack", "Missing")
    assert done.returncode == 1
    assert [(name, detail) for outcome, name, detail in lines if outcome == "FAIL"] == [
        ("stack", f"there is no stack Missing in {REGION}; name yours with stack=…")
    ]
    assert len(lines) == LINES


def test_error_for_a_region_without_health_imaging_names_every_region_with_it(smoke):
    done, lines = smoke(AWS_ENDPOINT_URL_MEDICAL_IMAGING="http://localhost:1")
    assert done.returncode == 1
    (detail,) = [
        detail for outcome, name, detail in lines if (outcome, name) == ("FAIL", "HealthImaging in this Region")
    ]
    assert all(region in detail for region in REGIONS)
