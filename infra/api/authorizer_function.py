"""The Lambda authorizer, which checks tokens of an OpenID Connect issuer. Its role may only log and trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from framegate.settings import AuthorizerSettings
from infra.acknowledge import acknowledge
from infra.build.bundling import AUTHORIZER_REQUIREMENTS
from infra.build.package_layer import PackageLayer
from infra.lambda_function import LambdaFunction

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from infra.config import Config

MEMORY_MB = 512
TIMEOUT_SECONDS = 10
"""Time limit for one token. The function stops fetching the issuer's keys before that."""


class AuthorizerFunction(LambdaFunction):
    """The function that decides what the holder of a token may call.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the issuer, the audiences, the claims that list what is granted, and the longest lifetime.
    key : kms.IKey
        Encrypts the log, the environment variables and the snapshots.

    Attributes
    ----------
    alias : lambda_.Alias
        The alias ``live`` of the newest version. Only published versions start from a snapshot.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, key: kms.IKey) -> None:
        layer = PackageLayer(
            scope,
            f"{construct_id}Packages",
            config=config,
            requirements=AUTHORIZER_REQUIREMENTS,
            description="Packages that check JSON Web Tokens",
        )
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=key,
            handler="authorizer",
            description="Checks the tokens of callers of the REST API",
            memory_mb=MEMORY_MB,
            timeout_seconds=TIMEOUT_SECONDS,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS,
            layers=[layer],
            has_audit_records=False,
            settings=[
                AuthorizerSettings(
                    datastore_ids=config.datastore_ids,
                    issuer=config.jwt_issuer or "",
                    audiences=config.jwt_audience,
                    datastores_claim=config.jwt_datastores_claim,
                    audit_claim=config.audit_claim,
                    image_sets_claim=config.jwt_image_sets_claim,
                    studies_claim=config.jwt_studies_claim,
                    max_lifetime_seconds=config.jwt_max_lifetime_seconds,
                )
            ],
            statements=[],
        )
        acknowledge(
            self.function,
            "API Gateway caches its answers for minutes and throttles requests without a valid token. Reserved "
            "concurrency would take more of the account's quota than the function ever needs.",
            "HIPAA.Security-LambdaConcurrency",
        )
        self.alias = self.published()
