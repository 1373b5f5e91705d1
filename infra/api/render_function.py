"""The Lambda function that draws pictures of frames, and its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.bucket_layout import BODY_PREFIX, INDEX_PREFIX
from infra.api.rest_function import RestFunction
from infra.build.bundling import RENDERING_REQUIREMENTS
from infra.build.package_layer import PackageLayer
from infra.permissions import allow, objects_of, use_key

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore

RENDER_MEMORY_MB = 1769
"""Memory of the function, which gives one vCPU. The process that draws may use 1 GiB of it."""

_PREFIXES = (INDEX_PREFIX, BODY_PREFIX)


class RenderFunction(RestFunction):
    """The function that answers requests for pictures.

    It starts without a snapshot: the process that draws loads most of its libraries, and it starts after a snapshot
    anyway. A second snapshot would cost as much each month as drawing a million thumbnails.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the function's settings and the data stores.
    frame_store : FrameStore
        The bucket that it stores indexes and large pictures in, and signs URLs for.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        layer = PackageLayer(
            scope,
            "Rendering",
            config=config,
            requirements=RENDERING_REQUIREMENTS,
            description="Decoders of image frames and encoders of pictures",
        )
        super().__init__(
            scope,
            construct_id,
            config=config,
            frame_store=frame_store,
            handler="rendering",
            description="Draws pictures of frames",
            memory_mb=RENDER_MEMORY_MB,
            layers=[layer],
            dicomweb_actions=["GetDICOMSeriesMetadata"],
            prefixes=_PREFIXES,
            statements=[
                allow(
                    "StoreIndexes",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    *objects_of(frame_store, config, *_PREFIXES),
                ),
                use_key(frame_store, "s3"),
            ],
        )
