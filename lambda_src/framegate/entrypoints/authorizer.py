"""The function that checks tokens for API Gateway: whether their holder may call the REST API."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from framegate.access.caller import caller_context
from framegate.access.issuer import IssuerError, OpenIdIssuer
from framegate.access.issuer_keys import IssuerKeys
from framegate.access.tokens import RefusedTokenError, TokenChecker
from framegate.observability import count_cold_start, logger, stack_of, tracer
from framegate.rest.routes import METHODS
from framegate.settings import AuthorizerSettings, is_snapshot_start

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from framegate.access.tokens import Grant


class UnauthorizedError(Exception):
    """The error that API Gateway answers with 401, because of its message. It answers any other error with 500."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class AuthorizerError(Exception):
    """The token could not be checked. API Gateway refuses the request with 500."""


@cache
def _settings() -> AuthorizerSettings:
    return AuthorizerSettings.from_environment()


@cache
def _checker() -> TokenChecker:
    settings = _settings()
    keys = IssuerKeys(OpenIdIssuer(settings.issuer).keys)
    return TokenChecker(
        settings.issuer,
        settings.audiences,
        settings.datastores_claim,
        keys,
        principal_claim=settings.audit_claim,
        image_sets_claim=settings.image_sets_claim,
        studies_claim=settings.studies_claim,
        max_lifetime_seconds=settings.max_lifetime_seconds,
    )


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer the event of a ``TOKEN`` authorizer with the policy that the token grants.

    Raises
    ------
    UnauthorizedError
        If the token is not valid.
    AuthorizerError
        If the token could not be checked.
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
        # Lambda logs errors that leave the handler, and the message of an unexpected one may quote the token.
        logger.error("token not checked", extra={"error": type(error).__name__, "stack": stack_of(error)})
        raise AuthorizerError(type(error).__name__) from None
    logger.info("token accepted")
    return answer


def _token_of(event: dict[str, Any]) -> str:
    """Return the token of ``Authorization: Bearer …``.

    References
    ----------
    RFC 6750, section 2.1. The scheme is case-insensitive: RFC 9110, section 11.1.
    """
    scheme, _, token = str(event.get("authorizationToken")).partition(" ")
    if scheme.lower() != "bearer":
        raise RefusedTokenError("scheme")
    return token.strip(" ")


def _answer(method_arn: str, grant: Grant) -> dict[str, Any]:
    """Return the policy that API Gateway caches for the token and applies to every request with it.

    The policy covers every path that the token grants, because the next request may be for another path.
    """
    stage = "/".join(method_arn.split("/")[:2])
    granted, effect, resources = None, "Allow", [f"{stage}/*"]
    if grant.datastore_ids is not None:
        granted = sorted(grant.datastore_ids.intersection(_settings().datastore_ids))
        # A `*` also matches slashes. In place of the method, it would let the rest of the pattern match anywhere in a
        # path.
        resources = [f"{stage}/{method}/datastore/{each}/*" for each in granted for method in METHODS]
    if not resources:
        # An empty policy would leave the decision to others, such as the resource policy of the API.
        effect, resources = "Deny", [f"{stage}/*"]
    return {
        # API Gateway requires it and shows it to operators, so it does not identify the holder.
        "principalId": "token-holder",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": resources}],
        },
        "context": caller_context(grant, granted),
    }


if is_snapshot_start():
    # Loading costs no request any time before the snapshot. The issuer's keys would be out of date after it.
    _checker()
    tracer()
