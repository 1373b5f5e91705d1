"""The function that checks the tokens of an OpenID Connect issuer, which may log and trace, and do nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from framegate.settings import AuthorizerSettings
from infra.acknowledge import acknowledge
from infra.bundling import AUTHORIZER_REQUIREMENTS
from infra.lambda_function import LambdaFunction
from infra.package_layer import PackageLayer

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from infra.config import Config

MEMORY_MB = 512
TIMEOUT_SECONDS = 10
"""Time for a token; fetching the issuer's keys, once in a while, is given up before."""


class AuthorizerFunction(LambdaFunction):
    """Says what the holder of a token may call.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Names the issuer, the audiences, and the claim that lists data stores.
    key : kms.IKey
        Encrypts its log, its settings and its snapshots.

    Attributes
    ----------
    alias : lambda_.Alias
        ``live``, the version to call. Only published versions start from a snapshot.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, key: kms.IKey) -> None:
        layer = PackageLayer(
            scope,
            f"{construct_id}Packages",
            config=config,
            requirements=AUTHORIZER_REQUIREMENTS,
            description="Checks JSON Web Tokens",
        )
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=key,
            handler="authorizer",
            description="Checks the tokens of those who call Framegate's REST API",
            memory_mb=MEMORY_MB,
            timeout_seconds=TIMEOUT_SECONDS,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS,
            layers=[layer],
            settings=[
                AuthorizerSettings(
                    datastore_ids=config.datastore_ids,
                    issuer=config.jwt_issuer or "",
                    audiences=config.jwt_audience,
                    datastores_claim=config.jwt_datastores_claim,
                )
            ],
            statements=[],
        )
        acknowledge(
            self.function,
            "API Gateway asks it once in minutes for a token, and throttles what comes without a good one. A "
            "reservation would take from the account's quota what it never needs.",
            "HIPAA.Security-LambdaConcurrency",
        )
        self.alias = self.published()
