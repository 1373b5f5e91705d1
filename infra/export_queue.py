"""The queue of the export, the dead-letter queue behind it, and the events of HealthImaging that go there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

if TYPE_CHECKING:
    from infra.config import Config
    from infra.frame_store import FrameStore

MOST_RECEIVES = 8
"""Times that a message is tried: 20 seconds after the first, then twice as long each time, 36 minutes in all."""

RETENTION = Duration.days(14)


class ExportQueue(Construct):
    """Holds what is to be exported, removed or stored, until it is done.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides the events that are listened to, and how long a message is worked on.
    frame_store : FrameStore
        Has the key that encrypts messages.

    Attributes
    ----------
    queue : sqs.Queue
        Events of image sets and messages of our own.
    dead_letters : sqs.Queue
        What could not be done, and what EventBridge could not deliver.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        # Nothing is kept in a queue that is not in HealthImaging: queues go with the stack.
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
            # AWS Lambda developer guide, "Using Lambda with Amazon SQS": six times the function's timeout.
            visibility_timeout=Duration.seconds(6 * config.export_timeout_seconds),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MOST_RECEIVES, queue=self.dead_letters),
        )
        self._listen(config)
        self._watch()

    def _listen(self, config: Config) -> None:
        wanted = {"OnImageSetChange": [f"Image Set {each}" for each in config.export_events]}
        wanted["OnImageSetDeletion"] = ["Image Set Deleted"]
        for construct_id, detail_types in wanted.items():
            if detail_types:
                events.Rule(
                    self,
                    construct_id,
                    description=f"{' / '.join(detail_types)}, in the data stores of {config.stack_name}",
                    event_pattern=events.EventPattern(
                        source=[config.event_source],
                        detail_type=detail_types,
                        detail={"datastoreId": list(config.datastore_ids)},
                    ),
                    targets=[
                        targets.SqsQueue(
                            self.queue,
                            dead_letter_queue=self.dead_letters,
                            max_event_age=Duration.hours(24),
                            retry_attempts=185,
                        )
                    ],
                )

    def _watch(self) -> None:
        self.dead_letters.metric_approximate_number_of_messages_visible(
            period=Duration.minutes(1), statistic=cloudwatch.Stats.MAXIMUM
        ).create_alarm(
            self,
            "DeadLetterAlarm",
            alarm_description=(
                "Exports have failed for good. The export function's log has the cause, by the message's id. Mend it, "
                "then send the messages back: aws sqs start-message-move-task --source-arn <the dead-letter queue's>."
            ),
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
