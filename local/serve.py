"""The local system kept running, to be called by hand."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY, LocalCloud
from local.command import run_command
from local.importing import import_folder
from local.samples import write_samples


def run() -> int:
    """Start everything, print what to try, and wait to be stopped."""
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
{len(frames)} frames are served at {deployment.api_url}
HealthImaging itself is at {cloud.health_imaging.url}, all else of AWS at {cloud.endpoint}

# a frame of {small.size:,} bytes
{curl} -o frame.jph '{frame}'

# a thumbnail of it: the smallest stored resolution with at least 128 pixels
{curl} -D - -o thumbnail.jph '{frame}?size=128'

# its first 1,000 bytes
{curl} -r 0-999 -o front.bin '{frame}'

# its two lowest levels (curl up to 7.88.1 needs query parameters in alphabetical order to sign them)
{curl} -o levels.jph '{frame}?endLevel=1&startLevel=0'

# the headers alone
{curl} -I '{frame}'

# the frames of the image set
{curl} '{image_set}/imageFrames?frameNumber=1&maxResults=10'

# the same frame in base64, in JSON
{curl} -H 'Accept: application/json' '{frame}'

# as HealthImaging's own API has it
{curl} -o frame.jph -d '{{"imageFrameId": "{small.image_frame_id}"}}' '{image_set}/getImageFrame'

# a frame of {large.size:,} bytes: the answer is a redirect to S3, which takes no second signature
{curl} -o /dev/null -w '%{{redirect_url}}' '{large_set}/imageFrame/{large.image_frame_id}' | xargs curl -sS -o large.jph

# a problem
{curl} '{image_set}/imageFrame/{"0" * 32}'

Ctrl-C stops everything.""",
            flush=True,
        )
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    run_command(run)
