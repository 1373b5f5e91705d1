"""Lambda layers with packages that only some functions need."""

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
    """A layer of packages for Lambda's Python and the configured architecture.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the architecture.
    requirements : Path
        The requirements file of the packages.
    description : str
        Purpose of the layer; the console shows it.
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
