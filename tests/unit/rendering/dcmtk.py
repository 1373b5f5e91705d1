"""Writes ``dcmtk.json``: samples of the pixels that DCMTK's ``dcmj2pnm`` draws for the sample files.

Run with ``python -m tests.unit.rendering.dcmtk`` where DCMTK is installed (Debian package ``dcmtk``).
"""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from tests.unit.rendering.samples import candidates, sampled

OUTPUT = Path(__file__).with_name("dcmtk.json")


def drawn(path):
    """The picture of the first frame that DCMTK draws; None if it cannot."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    if "WindowCenter" in dataset:
        window = ["+Wi", "1"]
    elif "VOILUTSequence" in dataset:
        window = ["+Wl", "1"]
    elif dataset.PhotometricInterpretation.startswith("MONOCHROME") and "SharedFunctionalGroupsSequence" not in dataset:
        window = ["+Wm"]
    else:
        window = []
    command = ["dcmj2pnm", "--frame", "1", "--no-overlays", *window, "--write-raw-pnm", str(path)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        return None
    return np.asarray(Image.open(io.BytesIO(done.stdout)))


def main():
    found = {}
    for path in candidates():
        pixels = drawn(path)
        if pixels is not None:
            found[path.name] = {"shape": list(pixels.shape), "sample": sampled(pixels).tolist()}
    OUTPUT.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    print(f"{len(found)} files")


if __name__ == "__main__":
    main()
