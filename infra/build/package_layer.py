"""Lambda layers with packages that are too large for every function to carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from infra.build.bundling import layer_code
from infra.lambda_function import ARCHITECTURES

if TYPE_CHECKING:
    from pathlib import Path

    from constructs import Construct

    from infra.config import Config


class PackageLayer(lambda_.LayerVersion):
    """Packages for Lambda's Python and the configured processor.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Decides the processor.
    requirements : Path
        The file that names the packages.
    description : str
        What they are for, for the console.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, requirements: Path, description: str
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=description,
            code=layer_code(requirements, config.architecture),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            compatible_architectures=[ARCHITECTURES[config.architecture]],
        )
