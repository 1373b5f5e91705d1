"""The function that API Gateway asks whether the holder of a token may call the REST API."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from framegate.access.caller import caller_context
from framegate.access.issuer import IssuerError, OpenIdIssuer
from framegate.access.issuer_keys import IssuerKeys
from framegate.access.tokens import RefusedTokenError, TokenChecker
from framegate.observability import count_cold_start, logger, stack_of, tracer
from framegate.settings import AuthorizerSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from framegate.access.tokens import Grant


class UnauthorizedError(Exception):
    """What API Gateway turns into its answer 401, for nothing but its message; any other error is 500."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class AuthorizerError(Exception):
    """The token could not be checked, and so the request is not let in: 500."""


@cache
def _settings() -> AuthorizerSettings:
    return AuthorizerSettings.from_environment(os.environ)


@cache
def _checker() -> TokenChecker:
    settings = _settings()
    keys = IssuerKeys(OpenIdIssuer(settings.issuer).keys)
    return TokenChecker(settings.issuer, settings.audiences, settings.datastores_claim, keys)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer the event of a ``TOKEN`` authorizer with what the token grants.

    Raises
    ------
    UnauthorizedError
        If the token is refused.
    AuthorizerError
        If it could not be checked.
    """
    count_cold_start("authorizer")
    try:
        grant = _checker().check(_token_of(event))
        answer = _answer(event["methodArn"], grant)
    except RefusedTokenError as refused:
        logger.info("token refused", extra={"reason": refused.reason})
        raise UnauthorizedError from None
    except IssuerError as error:
        logger.error("token not checked", extra={"reason": error.reason})
        raise AuthorizerError(error.reason) from None
    except Exception as error:
        # Lambda logs what gets out of here. The message of an error that nobody expected may quote the token.
        logger.error("token not checked", extra={"error": type(error).__name__, "stack": stack_of(error)})
        raise AuthorizerError(type(error).__name__) from None
    logger.info("token accepted")
    return answer


def _token_of(event: dict[str, Any]) -> str:
    """The token of ``Authorization: Bearer …``.

    References
    ----------
    RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
    """
    scheme, _, token = str(event.get("authorizationToken")).partition(" ")
    if scheme.lower() != "bearer":
        raise RefusedTokenError("scheme")
    return token.strip(" ")


def _answer(method_arn: str, grant: Grant) -> dict[str, Any]:
    """The policy that API Gateway holds requests with this token to, for as long as it keeps the answer.

    It covers every path that the token is good for, not only the one asked about: the next request may be another.
    """
    stage = "/".join(method_arn.split("/")[:2])
    granted, effect, resources = None, "Allow", [f"{stage}/*"]
    if grant.datastore_ids is not None:
        granted = sorted(grant.datastore_ids & _settings().datastore_ids)
        resources = [f"{stage}/*/datastore/{datastore_id}/*" for datastore_id in granted]
    if not resources:
        # A policy that says nothing would leave the decision to others, such as a policy of the API's own.
        effect, resources = "Deny", [f"{stage}/*"]
    return {
        # Required, and shown to the API's operators: nothing in it is to tell who the holder is.
        "principalId": "token-holder",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": resources}],
        },
        "context": caller_context(grant.expires_at, granted),
    }


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    # What is loaded before the snapshot costs no request anything. The issuer's keys are not: they would be old.
    _checker()
    tracer()
