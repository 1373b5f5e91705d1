"""The authorization of the REST API: IAM, a Cognito user pool, or tokens of an OpenID Connect issuer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cognito as cognito

from infra.api.authorizer_function import AuthorizerFunction

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from infra.config import Config

AUTHORIZER_CACHE_TTL = Duration.minutes(5)
"""How long API Gateway caches the authorizer's answer for a token. The API function rejects expired tokens."""

# API Gateway rejects other values of the header without a call of the authorizer.
TOKEN_FORM = r"^[Bb][Ee][Aa][Rr][Ee][Rr] +[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"  # noqa: S105 - no secret


def authorization(scope: Construct, config: Config, key: kms.IKey) -> apigateway.MethodOptions:
    """Return the authorization of every method except preflights. No mode leaves a method open.

    Parameters
    ----------
    scope : Construct
        The stack.
    config : Config
        Gives the authorization mode and its settings.
    key : kms.IKey
        Encrypts the data of the authorizer function.
    """
    match config.auth:
        case "iam":
            return apigateway.MethodOptions(authorization_type=apigateway.AuthorizationType.IAM)
        case "cognito":
            return _by_user_pool(scope, config)
        case "jwt":
            return _by_token(scope, config, key)


def _by_user_pool(scope: Construct, config: Config) -> apigateway.MethodOptions:
    user_pool = cognito.UserPool.from_user_pool_arn(scope, "UserPool", str(config.cognito_user_pool_arn))
    return apigateway.MethodOptions(
        authorization_type=apigateway.AuthorizationType.COGNITO,
        authorizer=apigateway.CognitoUserPoolsAuthorizer(
            scope,
            "UserPoolAuthorizer",
            cognito_user_pools=[user_pool],
            # API Gateway checks these tokens itself. A cache would save little, and its entries could outlive a token.
            results_cache_ttl=Duration.seconds(0),
        ),
        authorization_scopes=list(config.cognito_scopes) or None,
    )


def _by_token(scope: Construct, config: Config, key: kms.IKey) -> apigateway.MethodOptions:
    function = AuthorizerFunction(scope, "AuthorizerFunction", config=config, key=key)
    return apigateway.MethodOptions(
        authorization_type=apigateway.AuthorizationType.CUSTOM,
        authorizer=apigateway.TokenAuthorizer(
            scope,
            "TokenAuthorizer",
            handler=function.alias,
            validation_regex=TOKEN_FORM,
            results_cache_ttl=AUTHORIZER_CACHE_TTL,
        ),
    )
