"""The resources that alarms and the dashboard watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn


@dataclass(frozen=True)
class WatchedResources:
    """The resources whose metrics alarms and the dashboard use.

    Parameters
    ----------
    api_function : lambda_.Alias
        The API function.
    render_function : lambda_.Function
        The function that draws pictures.
    export_function, request_function : lambda_.Function
        The functions that export on events and for request manifests.
    queue, dead_letters : sqs.Queue
        The export queue and its dead-letter queue.
    deferred_stores, deferred_store_dead_letters : sqs.Queue
        The deferred store queue and its dead-letter queue.
    state_machine : sfn.StateMachine
        The state machine that processes request manifests.
    table_function : lambda_.Function or None
        The function that writes the tables, if the deployment has tables.
    table_dead_letters : sqs.Queue or None
        The dead-letter queue of that function's queue.
    """

    api_function: lambda_.Alias
    render_function: lambda_.Function
    export_function: lambda_.Function
    request_function: lambda_.Function
    queue: sqs.Queue
    dead_letters: sqs.Queue
    deferred_stores: sqs.Queue
    deferred_store_dead_letters: sqs.Queue
    state_machine: sfn.StateMachine
    table_function: lambda_.Function | None = None
    table_dead_letters: sqs.Queue | None = None
