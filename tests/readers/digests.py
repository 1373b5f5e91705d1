"""Reads the pixels of DICOM files with a library, and prints a digest for each: ``python digests.py LIBRARY < paths``.

It reads one path a line, and prints one line of JSON for each: ``{"digest": …}``, or ``{"error": …}``. Each file is
read in a process of its own, because GDCM ends the process at some broken files.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings

CHUNK_NUMBERS = 1024 * 1024


def of_pydicom():
    import pydicom

    return lambda path: pydicom.dcmread(path, force=True).pixel_array


def of_gdcm():
    import gdcm
    import numpy as np

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()

    def read(path):
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        if not reader.Read():
            raise ValueError("GDCM does not read the file")
        image = reader.GetImage()
        buffer = image.GetBuffer()
        if buffer is None:
            raise ValueError("GDCM does not decode the pixels")
        layout = image.GetPixelFormat()
        name = layout.GetScalarTypeAsString().lower()
        kind = np.dtype("uint8" if name == "singlebit" else name)
        content = np.frombuffer(buffer.encode("utf-8", "surrogateescape"), kind)
        if not image.GetPlanarConfiguration():
            return content
        # Framegate's files hold the samples of a pixel together.
        frames = image.GetDimension(2) if image.GetNumberOfDimensions() > 2 else 1
        return content.reshape(frames, layout.GetSamplesPerPixel(), -1).swapaxes(1, 2)

    return read


def of_simpleitk():
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return lambda path: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))


def of_monai():
    from monai.data import PydicomReader

    def read(path):
        reader = PydicomReader()
        pixels, _ = reader.get_data(reader.read(path))
        return pixels

    return read


LIBRARIES = {"pydicom": of_pydicom, "GDCM": of_gdcm, "SimpleITK": of_simpleitk, "MONAI": of_monai}


def described(read, path):
    import numpy as np

    try:
        pixels = np.asarray(read(path)).ravel()
    except Exception as error:
        return {"error": str(error).strip()[-200:] or type(error).__name__}
    # Libraries choose the type of the numbers by the compression.
    kind = "<f8" if pixels.dtype.kind == "f" else "<i8"
    digest = hashlib.sha256()
    for start in range(0, pixels.size, CHUNK_NUMBERS):
        digest.update(pixels[start : start + CHUNK_NUMBERS].astype(kind).tobytes())
    return {"digest": digest.hexdigest()}


def in_own_process(read, path):
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.write(sending, json.dumps(described(read, path)).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer.decode() or '{"error": "the process ended"}'


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    reading = LIBRARIES[sys.argv[1]]()
    for line in sys.stdin.read().splitlines():
        print(in_own_process(reading, line), flush=True)
