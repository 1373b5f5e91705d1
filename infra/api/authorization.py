"""Who may call the REST API: by IAM, by a Cognito user pool, or by tokens of an OpenID Connect issuer."""

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

REMEMBERED = Duration.minutes(5)
"""How long API Gateway lets a token in without asking again. The API's function sees to it that it has not ended."""

# What is not of this form is refused by API Gateway, without waking the authorizer.
TOKEN_FORM = r"^[Bb][Ee][Aa][Rr][Ee][Rr] +[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"  # noqa: S105 - no secret


def authorization(scope: Construct, config: Config, key: kms.IKey) -> apigateway.MethodOptions:
    """Return how every method but a preflight is authorized. There is no mode in which one is open.

    Parameters
    ----------
    scope : Construct
        The stack.
    config : Config
        Decides who may call.
    key : kms.IKey
        Encrypts what an authorizer of ours keeps.
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
            # API Gateway checks these tokens itself, so that remembering one saves little, and would outlive it.
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
            results_cache_ttl=REMEMBERED,
        ),
    )
