"""Finds the IAM policies of a template and writes them as AWS would see them, intrinsic functions resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit.findings import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT = "123456789012"
REGION = "eu-west-1"
_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "Framegate",
}
# The service authorization reference, "Resource types" of each service. `{}` stands for the name of the resource.
_ARNS = {
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{}}",
    "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
    "AWS::Lambda::Alias": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:function:{{}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{{}}",
}
# Resources whose Ref is their ARN; that of any other is its name.
_REF_IS_ARN = frozenset({"AWS::Lambda::Alias", "AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"})


def policies(template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every policy of a template with the construct path of the resource that has it.

    Trust policies are left out: parliament takes their lack of a resource for an error.

    Parameters
    ----------
    template : mapping
        The CloudFormation template, with the metadata ``aws:cdk:path``.

    Raises
    ------
    AuditError
        A policy uses a function or the ARN of a resource that cannot be resolved here.
    """
    resources = template["Resources"]
    for logical_id, resource in resources.items():
        for document in _documents(resource.get("Properties", {})):
            yield construct_path(template, logical_id), _resolved(document, resources)


def construct_path(template: Mapping[str, Any], logical_id: str) -> str:
    """Return the path of the construct that a resource comes from, without the name of the stack."""
    metadata = template["Resources"][logical_id].get("Metadata", {})
    return str(metadata.get("aws:cdk:path", logical_id)).partition("/")[2] or logical_id


def _documents(value: Any) -> Iterator[dict[str, Any]]:
    match value:
        case {"Statement": list()}:
            yield value
        case dict():
            for key, each in value.items():
                if key != "AssumeRolePolicyDocument":
                    yield from _documents(each)
        case list():
            for each in value:
                yield from _documents(each)


def _resolved(value: Any, resources: Mapping[str, Any]) -> Any:
    match value:
        case {"Ref": name} if name in _PSEUDO_PARAMETERS:
            return _PSEUDO_PARAMETERS[name]
        case {"Ref": name}:
            return _arn(name, resources) if resources[name]["Type"] in _REF_IS_ARN else name.lower()
        case {"Fn::GetAtt": [name, "Arn"]}:
            return _arn(name, resources)
        case {"Fn::Join": [separator, parts]}:
            return separator.join(_resolved(each, resources) for each in parts)
        case {"Fn::Select": [index, {"Fn::Split": [separator, whole]}]}:
            return _resolved(whole, resources).split(separator)[int(index)]
        case dict():
            unknown = [key for key in value if key.startswith("Fn::")]
            if unknown:
                raise AuditError(f"a policy uses {unknown[0]}, which audit/policies.py cannot resolve: {value}")
            return {key: _resolved(each, resources) for key, each in value.items()}
        case list():
            return [_resolved(each, resources) for each in value]
        case bool():
            return str(value).lower()
        # IAM takes numbers as text, too; parliament takes nothing else.
        case int() | float():
            return str(value)
    return value


def _arn(name: str, resources: Mapping[str, Any]) -> str:
    kind = resources[name]["Type"]
    if kind not in _ARNS:
        raise AuditError(f"a policy names the ARN of a resource of type {kind}, which audit/policies.py does not know")
    return _ARNS[kind].format(name.lower())
