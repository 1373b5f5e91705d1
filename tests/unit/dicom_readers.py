"""Programs and libraries that read DICOM files: what they find in a file, for a comparison of two files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from framegate.datasets.part10 import file_head

PROJECT = Path(__file__).parents[2]
READERS_PYTHON = PROJECT / ".venv-readers" / "bin" / "python"
"""The interpreter that has GDCM and SimpleITK, and MONAI where torch is installed."""

MODULES = {"pydicom": "pydicom", "GDCM": "gdcm", "SimpleITK": "SimpleITK", "MONAI": "monai"}

JPEG_2000 = "1.2.840.10008.1.2.4.90"
HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")

NOT_INSTALLED = "`make test` installs it"
NO_TORCH = "`make torch` installs it where pip finds a CPU build of torch"


def interpreter_with(module):
    """The interpreter that has a module, and its environment; skips the test if there is none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")])}
    for python in (sys.executable, READERS_PYTHON):
        found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        if Path(python).exists() and not subprocess.run([python, "-c", found], env=environment, check=False).returncode:
            return str(python), environment
    pytest.skip(f"{module} is not installed: {NO_TORCH if module in ('monai', 'torch') else NOT_INSTALLED}")


def digests(library, paths):
    """A digest of the pixels that a library reads from each file; None where it reads none."""
    python, environment = interpreter_with(MODULES[library])
    program = [python, str(PROJECT / "tests" / "readers" / "digests.py"), library]
    result = subprocess.run(
        program, input="\n".join(map(str, paths)), stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    return [json.loads(line).get("digest") for line in result.stdout.splitlines()]


def require_program(*names):
    """The first program that is installed; skips the test if there is none."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed: Debian's packages dcmtk and dicom3tools have these programs")
    return found


def pictures_of_dcmtk(path, folder):
    """The frames of a file as DCMTK draws them, without a window; None if it draws none."""
    program = require_program("dcm2img", "dcmj2pnm")
    for old in folder.glob("frame*"):
        old.unlink()
    command = [program, "--all-frames", "--write-16-bit-pnm", "--no-windowing", str(path), str(folder / "frame")]
    result = subprocess.run(command, capture_output=True, check=False)
    drawn = [each.read_bytes() for each in sorted(folder.glob("frame*"))]
    return drawn if result.returncode == 0 and drawn else None


def errors_of_dciodvfy(path):
    """The errors that dciodvfy finds in a file, and how often; None if it ends before it has read the whole file."""
    program = require_program("dciodvfy")
    result = subprocess.run([program, "-new", str(path)], capture_output=True, check=False)
    lines = result.stderr.decode("utf-8", "replace").splitlines()
    errors = Counter(line for line in lines if line.startswith("Error"))
    if result.returncode < 0 or any("read failed" in error for error in errors):
        return None
    return errors


def with_known_syntax(path, folder):
    """A copy of an exported file in HTJ2K that says JPEG 2000: dciodvfy of 2022 takes HTJ2K for uncompressed."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.TransferSyntaxUID not in HTJ2K:
        return path
    uids = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    content, head = path.read_bytes(), file_head(*uids, meta.TransferSyntaxUID)
    assert content.startswith(head)
    copy = folder / "known.dcm"
    copy.write_bytes(file_head(*uids, JPEG_2000) + content[len(head) :])
    return copy


def without_pixels(path, folder):
    """A copy of a file in explicit little endian without its pixel data, which ends dciodvfy in some files."""
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    for _ in dataset.iterall():
        # This decodes the element.
        pass
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy = folder / "without.dcm"
    pydicom.dcmwrite(copy, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    return copy
