"""AWS WAF before the REST API: AWS's rules for what is plainly an attack, and a limit for each address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Fn, Stack
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.retention import WAF_LOGS, log_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_apigateway as apigateway
    from aws_cdk import aws_kms as kms

    from infra.config import Config

RATE_WINDOW_SECONDS = 300

# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-baseline.html
# Rules of the common set that would block right requests, and are counted instead.
COUNTED = (
    # Many an HTTP library sends no User-Agent unless told to, so pipelines have none.
    "NoUserAgent_HEADER",
    # A request that is signed in its query carries its session token there: more than the 2,048 bytes allowed.
    "SizeRestrictions_QUERYSTRING",
    # Cookies are those of other applications under the same domain. The API reads none.
    "SizeRestrictions_Cookie_HEADER",
    "CrossSiteScripting_COOKIE",
    "EC2MetaDataSSRF_COOKIE",
)

# What is left of a request in the log: not who sent it, nor what a client may have written into its address.
REDACTED_HEADERS = ("authorization", "x-amz-security-token", "cookie")


class Firewall(Construct):
    """Blocks what AWS's managed rules find, and addresses that send too much.

    A blocked request is answered by API Gateway, as a problem document that pages can read.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Decides how many requests an address may make, and how long logs are kept.
    key : kms.IKey
        Encrypts the log.
    stage : apigateway.Stage
        What it stands before.
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
            rules=[
                self._rate_limit(0, config),
                self._managed(1, "AWSManagedRulesKnownBadInputsRuleSet"),
                self._managed(2, "AWSManagedRulesCommonRuleSet", COUNTED),
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
                    # A page's preflights, one for each frame, are counted by themselves: they take nothing from the
                    # requests they precede, and are let through when these are refused, so that the page can read why.
                    aggregate_key_type="CUSTOM_KEYS",
                    custom_keys=[keys(ip={}), keys(http_method={})],
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
            # The stack's name tells deployments apart; a metric's has at most 128 characters.
            metric_name=f"{self._stack_name[:80]}-{name}",
            # A sample shows a request whole, its token included.
            sampled_requests_enabled=False,
        )

    def _log(self, acl: wafv2.CfnWebACL, config: Config, key: kms.IKey) -> None:
        # The stack's own id ends the name, so that the group that an earlier stack left is not in the way.
        stack_uuid = Fn.select(2, Fn.split("/", Aws.STACK_ID))
        group = log_group(self, "Logs", config, key, f"{WAF_LOGS}{config.stack_name}-{stack_uuid}")
        field = wafv2.CfnLoggingConfiguration.FieldToMatchProperty
        wafv2.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            # Without the `:*` that the group's own ARN ends in.
            log_destination_configs=[
                Stack.of(self).format_arn(service="logs", resource=f"log-group:{group.log_group_name}")
            ],
            redacted_fields=[
                *(field(single_header={"Name": name}) for name in REDACTED_HEADERS),
                field(query_string={}),
                field(uri_path={}),
            ],
            # The access log has every request; here are those that a rule has an opinion of.
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
