"""Records why a finding of cdk-nag does not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Validations

if TYPE_CHECKING:
    from constructs import IConstruct


def acknowledge(construct: IConstruct, reason: str, *rules: str) -> None:
    """Accept findings on a construct and everything in it.

    Parameters
    ----------
    construct : IConstruct
        The smallest construct that has the findings.
    reason : str
        Why they are accepted.
    *rules : str
        The findings, such as ``AwsSolutions-L1``. Where a rule reports more than one on a resource, each is accepted
        for itself: ``AwsSolutions-IAM5[Resource::*]``.
    """
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule in rules))
