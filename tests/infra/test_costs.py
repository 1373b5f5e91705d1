"""The estimated costs of an idle deployment match the resources of its template."""

from __future__ import annotations

import pytest

from bench.costs import DEPLOYMENT, PRICES, SECONDS_A_MONTH, idle_dollars
from infra.config import Config
from tests.infra.cloudformation import logical_id, properties
from tests.infra.project import AUTH, DATASTORE_A, FIREWALL


def snapshots_gb(template):
    """Return the total memory of all published versions with a snapshot."""
    functions = properties(template, "AWS::Lambda::Function")
    published = [
        functions[logical_id(each["FunctionName"])] for each in properties(template, "AWS::Lambda::Version").values()
    ]
    return sum(each["MemorySize"] for each in published if each["SnapStart"]["ApplyOn"] == "PublishedVersions") / 1024


def alarm_metrics(template):
    """Return the number of metrics that alarms read. CloudWatch charges for each, also for those in an expression."""
    return sum(
        len([metric for metric in each["Metrics"] if "MetricStat" in metric]) if "Metrics" in each else 1
        for each in properties(template, "AWS::CloudWatch::Alarm").values()
    )


@pytest.mark.parametrize("auth", AUTH.values(), ids=AUTH)
@pytest.mark.parametrize("firewall", FIREWALL.values(), ids=FIREWALL)
def test_idle_costs_match_the_resources_of_the_template(synthesize, auth, firewall):
    keys = {**auth, **firewall, "memory_mb": "2048"}
    template = synthesize(**keys)
    dashboards = len(properties(template, "AWS::CloudWatch::Dashboard"))
    acls = properties(template, "AWS::WAFv2::WebACL").values()
    polled = [
        each
        for each in properties(template, "AWS::Lambda::EventSourceMapping").values()
        if each.get("Enabled") is not False
    ]
    monthly = (
        snapshots_gb(template) * SECONDS_A_MONTH * PRICES.snapshot_gb_second
        + dashboards * PRICES.dashboard_month
        + alarm_metrics(template) * PRICES.alarm_metric_month
        + len(properties(template, "AWS::KMS::Key")) * PRICES.key_month
        + sum(PRICES.acl_month + len(each["Rules"]) * PRICES.acl_rule_month for each in acls)
        + len(polled) * 0.25 * SECONDS_A_MONTH * PRICES.sqs_request
    )

    assert sum(idle_dollars(Config.from_context({"datastore_ids": DATASTORE_A, **keys})).values()) == pytest.approx(
        monthly
    )
    assert alarm_metrics(template) == DEPLOYMENT.alarm_metrics


@pytest.mark.parametrize("auth", AUTH.values(), ids=AUTH)
def test_template_has_no_other_resources_with_monthly_costs(synthesize, auth):
    """Custom resources, NAT gateways and provisioned concurrency, for example, would add monthly costs."""
    template = synthesize(**auth).to_json()["Resources"]
    aliases = [each["Properties"] for each in template.values() if each["Type"] == "AWS::Lambda::Alias"]

    assert not [each for each in aliases if "ProvisionedConcurrencyConfig" in each]
    assert not [each["Type"] for each in template.values() if each["Type"].startswith(("AWS::EC2::", "Custom::"))]
