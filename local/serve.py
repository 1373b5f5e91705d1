"""Runs the local system until Ctrl-C, and prints ``curl`` lines to try."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY, LocalCloud
from local.command import run_command
from local.importing import import_folder
from local.samples import write_samples


def run() -> int:
    """Start everything, print the ``curl`` lines, and wait for Ctrl-C."""
    with LocalCloud(lambda text: print(f"… {text}", flush=True)) as cloud:
        datastore_id = cloud.client("medical-imaging").create_datastore(datastoreName="serve")["datastoreId"]
        with tempfile.TemporaryDirectory() as temporary:
            write_samples(Path(temporary))
            print("… importing DICOM files", flush=True)
            frames = import_folder(cloud, datastore_id, Path(temporary))
        deployment = cloud.deploy(datastore_id)
        small = min(frames, key=lambda frame: abs(frame.size - 200_000))
        large = max(frames, key=lambda frame: frame.size)
        image_set = f"{deployment.api_url}/datastore/{datastore_id}/imageSet/{small.image_set_id}"
        frame = f"{image_set}/imageFrame/{small.image_frame_id}"
        large_set = f"{deployment.api_url}/datastore/{datastore_id}/imageSet/{large.image_set_id}"
        curl = f'curl -sS --aws-sigv4 "aws:amz:{REGION}:execute-api" --user {ACCESS_KEY}:{SECRET_KEY}'
        print(
            f"""
The REST API serves {len(frames)} frames at {deployment.api_url}
HealthImaging emulator: {cloud.health_imaging.url}
Other AWS services:     {cloud.endpoint}

# a frame of {small.size:,} bytes
{curl} -o frame.jph '{frame}'

# its thumbnail: the smallest stored resolution whose longer side has at least 128 pixels
{curl} -D - -o thumbnail.jph '{frame}?size=128'

# its first 1,000 bytes
{curl} -r 0-999 -o front.bin '{frame}'

# its two lowest levels (up to version 7.88.1, curl signs only query parameters in alphabetical order)
{curl} -o levels.jph '{frame}?endLevel=1&startLevel=0'

# only the headers
{curl} -I '{frame}'

# the frame index of the image set: the first frame of each instance
{curl} '{image_set}/imageFrames?frameNumber=1&maxResults=10'

# the same frame in JSON, encoded in base64
{curl} -H 'Accept: application/json' '{frame}'

# the same frame with the request of HealthImaging's GetImageFrame
{curl} -o frame.jph -d '{{"imageFrameId": "{small.image_frame_id}"}}' '{image_set}/getImageFrame'

# a frame of {large.size:,} bytes: a redirect to a pre-signed URL, which needs no signature of yours
{curl} -o /dev/null -w '%{{redirect_url}}' '{large_set}/imageFrame/{large.image_frame_id}' | xargs curl -sS -o large.jph

# an error: a frame that does not exist
{curl} '{image_set}/imageFrame/{"0" * 32}'

Press Ctrl-C to stop.""",
            flush=True,
        )
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    run_command(run)
