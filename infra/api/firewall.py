"""AWS WAF in front of the REST API: AWS's rules against common attacks, and rate limits per IP address and token."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from framegate.problems import Throttled
from infra.retention import WAF_LOGS, log_group, unique_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_apigateway as apigateway
    from aws_cdk import aws_kms as kms

    from infra.config import Config

RATE_WINDOW_SECONDS = 300

# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-baseline.html
# Rules of the common rule set that would block valid requests. They count them instead.
COUNTED_RULES = (
    # Many HTTP libraries send no User-Agent by default, so requests of pipelines often lack it.
    "NoUserAgent_HEADER",
    # A request signed in its query carries the session token there, which exceeds the limit of 2,048 bytes.
    "SizeRestrictions_QUERYSTRING",
    # Cookies belong to other applications under the same domain. The API reads none.
    "SizeRestrictions_Cookie_HEADER",
    "CrossSiteScripting_COOKIE",
    "EC2MetaDataSSRF_COOKIE",
)

# The log must not contain credentials. The query and the path are redacted too: clients can write anything there.
REDACTED_HEADERS = ("authorization", "x-amz-security-token", "cookie")


THROTTLED_BODY = "throttled"
"""Key of the problem document for tokens that exceed their limit."""

RETRY_AFTER_SECONDS = 60
"""Value of ``Retry-After`` for these tokens. WAF counts the last five minutes anew every few seconds."""


class Firewall(Construct):
    """Blocks requests that match AWS's managed rules, and IP addresses and tokens that exceed their rate limits.

    A blocked request gets a problem document that web pages can read: from API Gateway, or from WAF itself with status
    429 if a token exceeds its limit.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the rate limit and the retention of logs.
    key : kms.IKey
        Encrypts the log.
    stage : apigateway.Stage
        The protected stage.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, key: kms.IKey, stage: apigateway.Stage
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack_name = config.stack_name
        acl = wafv2.CfnWebACL(
            self,
            "WebAcl",
            description=f"In front of the REST API of {config.stack_name}",
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=self._visibility("Firewall"),
            custom_response_bodies={THROTTLED_BODY: _throttled_body()} if config.auth != "iam" else None,
            rules=[
                self._rate_limit(0, config),
                self._managed(1, "AWSManagedRulesKnownBadInputsRuleSet"),
                self._managed(2, "AWSManagedRulesCommonRuleSet", COUNTED_RULES),
                # With IAM, the header Authorization is a signature, which differs for each request.
                *([self._token_rate_limit(3, config)] if config.auth != "iam" else []),
            ],
        )
        wafv2.CfnWebACLAssociation(self, "Association", resource_arn=stage.stage_arn, web_acl_arn=acl.attr_arn)
        self._log(acl, config, key)

    def _rate_limit(self, priority: int, config: Config) -> wafv2.CfnWebACL.RuleProperty:
        keys = wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty
        return wafv2.CfnWebACL.RuleProperty(
            name="RateLimit",
            priority=priority,
            action=wafv2.CfnWebACL.RuleActionProperty(block={}),
            visibility_config=self._visibility("RateLimit"),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    limit=config.waf_rate_limit,
                    evaluation_window_sec=RATE_WINDOW_SECONDS,
                    # Preflights, one for each frame, count separately. They do not use up the limit of the requests
                    # that follow, and they still pass when those are blocked, so that the page can read the problem.
                    aggregate_key_type="CUSTOM_KEYS",
                    custom_keys=[keys(ip={}), keys(http_method={})],
                )
            ),
        )

    def _token_rate_limit(self, priority: int, config: Config) -> wafv2.CfnWebACL.RuleProperty:
        transformation = wafv2.CfnWebACL.TextTransformationProperty
        header = wafv2.CfnWebACL.CustomHTTPHeaderProperty
        return wafv2.CfnWebACL.RuleProperty(
            name="TokenRateLimit",
            priority=priority,
            action=wafv2.CfnWebACL.RuleActionProperty(
                block=wafv2.CfnWebACL.BlockActionProperty(
                    custom_response=wafv2.CfnWebACL.CustomResponseProperty(
                        response_code=int(HTTPStatus.TOO_MANY_REQUESTS),
                        custom_response_body_key=THROTTLED_BODY,
                        response_headers=[header(name=name, value=value) for name, value in _throttled_headers(config)],
                    )
                )
            ),
            visibility_config=self._visibility("TokenRateLimit"),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    limit=config.waf_token_rate_limit,
                    evaluation_window_sec=RATE_WINDOW_SECONDS,
                    # Requests without the header, such as preflights, do not count.
                    aggregate_key_type="CUSTOM_KEYS",
                    custom_keys=[
                        wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty(
                            header=wafv2.CfnWebACL.RateLimitHeaderProperty(
                                name="authorization",
                                text_transformations=[
                                    # The word Bearer may be written in any case and with more spaces.
                                    transformation(priority=0, type="COMPRESS_WHITE_SPACE"),
                                    transformation(priority=1, type="LOWERCASE"),
                                    # WAF logs the beginning of the value, which must not be that of a token.
                                    transformation(priority=2, type="MD5"),
                                ],
                            )
                        )
                    ],
                )
            ),
        )

    def _managed(self, priority: int, name: str, counted: Sequence[str] = ()) -> wafv2.CfnWebACL.RuleProperty:
        return wafv2.CfnWebACL.RuleProperty(
            name=name,
            priority=priority,
            override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
            visibility_config=self._visibility(name),
            statement=wafv2.CfnWebACL.StatementProperty(
                managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                    vendor_name="AWS",
                    name=name,
                    rule_action_overrides=[
                        wafv2.CfnWebACL.RuleActionOverrideProperty(
                            name=each, action_to_use=wafv2.CfnWebACL.RuleActionProperty(count={})
                        )
                        for each in counted
                    ]
                    or None,
                )
            ),
        )

    def _visibility(self, name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
        return wafv2.CfnWebACL.VisibilityConfigProperty(
            cloud_watch_metrics_enabled=True,
            # The stack name separates deployments. The name of a metric has at most 128 characters.
            metric_name=f"{self._stack_name[:80]}-{name}",
            # A sample contains the whole request, including its token.
            sampled_requests_enabled=False,
        )

    def _log(self, acl: wafv2.CfnWebACL, config: Config, key: kms.IKey) -> None:
        group = log_group(self, "Logs", config, key, unique_name(f"{WAF_LOGS}{config.stack_name}"))
        field = wafv2.CfnLoggingConfiguration.FieldToMatchProperty
        wafv2.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            # WAF expects the ARN without the `:*` that the group's ARN attribute ends with.
            log_destination_configs=[
                Stack.of(self).format_arn(service="logs", resource=f"log-group:{group.log_group_name}")
            ],
            redacted_fields=[
                *(field(single_header={"Name": name}) for name in REDACTED_HEADERS),
                field(query_string={}),
                field(uri_path={}),
            ],
            # The access log has every request. This log keeps those that a rule matched.
            logging_filter={
                "DefaultBehavior": "DROP",
                "Filters": [
                    {
                        "Behavior": "KEEP",
                        "Requirement": "MEETS_ANY",
                        "Conditions": [{"ActionCondition": {"Action": action}} for action in ("BLOCK", "COUNT")],
                    }
                ],
            },
        )


def _throttled_body() -> wafv2.CfnWebACL.CustomResponseBodyProperty:
    """Return the problem document for tokens that exceed their limit.

    References
    ----------
    AWS WAF developer guide, "Custom responses for Block actions": the media type is one of three, and a custom response
    cannot set the header Content-Type. So the document goes out as ``application/json``.
    """
    document = {
        "type": f"urn:framegate:problem:{Throttled.slug}",
        "title": Throttled.title,
        "status": int(HTTPStatus.TOO_MANY_REQUESTS),
        "detail": "This token has sent too many requests in the last five minutes. Try again after the time in "
        "Retry-After.",
    }
    return wafv2.CfnWebACL.CustomResponseBodyProperty(content=json.dumps(document), content_type="APPLICATION_JSON")


def _throttled_headers(config: Config) -> list[tuple[str, str]]:
    # WAF cannot select the origin from a list. The document contains nothing secret, so every origin may read it.
    origin = config.cors_origins[0] if len(config.cors_origins) == 1 else "*"
    return [
        ("Retry-After", str(RETRY_AFTER_SECONDS)),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "Retry-After"),
    ]
