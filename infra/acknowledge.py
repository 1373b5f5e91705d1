"""Acknowledges findings of cdk-nag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Validations

if TYPE_CHECKING:
    from constructs import IConstruct


def acknowledge(construct: IConstruct, reason: str, *rules: str) -> None:
    """Acknowledge findings on a construct and its children.

    Parameters
    ----------
    construct : IConstruct
        The smallest construct that has the findings.
    reason : str
        Why the findings are acceptable.
    *rules : str
        The findings, such as ``AwsSolutions-L1``. If a rule reports several findings on a resource, name each one:
        ``AwsSolutions-IAM5[Resource::*]``.
    """
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule in rules))
