"""The Lambda layer with the decoder that pixels are verified with: too large for every function to carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from infra.bundling import decoder_code
from infra.lambda_function import ARCHITECTURES

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


class DecoderLayer(lambda_.LayerVersion):
    """OpenJPEG and NumPy, for Lambda's Python and the configured processor.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides the processor.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config) -> None:
        super().__init__(
            scope,
            construct_id,
            description="Decodes JPEG 2000 and HTJ2K, to verify the pixels of exported frames",
            code=decoder_code(config.architecture),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            compatible_architectures=[ARCHITECTURES[config.architecture]],
        )
