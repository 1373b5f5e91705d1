"""The gradual deployment of the API function: its steps, its alarms and its permissions."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.infra.cloudformation import listed, logical_id, only, properties, role, statements, text


@pytest.fixture(scope="module")
def production(synthesize):
    return synthesize(environment="production")


@pytest.fixture(scope="module")
def group(production):
    return only(properties(production, "AWS::CodeDeploy::DeploymentGroup"))


def alias(template):
    return only(template.find_resources("AWS::Lambda::Alias"))


def test_deployment_shifts_10_percent_for_five_minutes_first(group):
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    assert group["DeploymentStyle"] == {"DeploymentType": "BLUE_GREEN", "DeploymentOption": "WITH_TRAFFIC_CONTROL"}


def test_deployment_shifts_the_alias_that_api_gateway_calls(production, group):
    policy = alias(production)["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    groups = properties(production, "AWS::CodeDeploy::DeploymentGroup")

    assert groups[logical_id(policy["DeploymentGroupName"])] == group
    assert policy["ApplicationName"] == group["ApplicationName"]


def test_alarms_on_errors_and_latency_roll_a_deployment_back(production, group):
    alarms = properties(production, "AWS::CloudWatch::Alarm")
    watched = [alarms[logical_id(each["Name"])]["AlarmName"] for each in group["AlarmConfiguration"]["Alarms"]]

    assert watched == ["Framegate-ServerErrors", "Framegate-SlowAnswers"]
    assert group["AlarmConfiguration"]["Enabled"] is True
    assert set(group["AutoRollbackConfiguration"]["Events"]) == {
        "DEPLOYMENT_FAILURE",
        "DEPLOYMENT_STOP_ON_ALARM",
        "DEPLOYMENT_STOP_ON_REQUEST",
    }


def references(value):
    """Yield the logical ids that a part of a template refers to."""
    match value:
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            yield name
        case dict():
            for each in value.values():
                yield from references(each)
        case list():
            for each in value:
                yield from references(each)


def test_resource_dependencies_have_no_cycle(production):
    resources = production.to_json()["Resources"]
    # References in update policies count too: the alarms must not depend on the API, which depends on the alias.
    graph = {
        name: ({*references(each), *listed(each.get("DependsOn", []))} & resources.keys()) - {name}
        for name, each in resources.items()
    }

    (shifted,) = properties(production, "AWS::Lambda::Alias")

    assert properties(production, "AWS::CodeDeploy::DeploymentGroup").keys() <= graph[shifted]
    assert len(list(TopologicalSorter(graph).static_order())) == len(resources)


def test_code_deploy_may_only_shift_aliases_of_the_api_function(production, group):
    found = role(production, group["ServiceRoleArn"])
    (trust,) = found["AssumeRolePolicyDocument"]["Statement"]
    (function,) = (name for name in properties(production, "AWS::Lambda::Function") if name.startswith("ApiFunction"))
    allowed = {
        sid: (listed(each["Action"]), [text(arn) for arn in listed(each["Resource"])])
        for sid, each in statements(found).items()
    }

    assert allowed == {
        "ShiftTraffic": (
            ["lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig", "lambda:UpdateAlias"],
            [f"${{{function}.Arn}}", f"${{{function}.Arn}}:*"],
        ),
        "WatchAlarms": (
            ["cloudwatch:DescribeAlarms"],
            ["arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"],
        ),
    }
    assert trust["Principal"] == {"Service": "codedeploy.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize("keys", [{}, {"environment": "production", "gradual_deployment": "false"}])
def test_alias_moves_at_once_without_gradual_deployment(synthesize, keys):
    template = synthesize(**keys)

    template.resource_count_is("AWS::CodeDeploy::Application", 0)
    template.resource_count_is("AWS::CodeDeploy::DeploymentGroup", 0)
    assert "UpdatePolicy" not in alias(template)
