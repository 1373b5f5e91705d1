"""The CloudFormation stack of one deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Stack, Tags
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.api.api_function import ApiFunction
from infra.api.authorization import authorization
from infra.api.gradual_deployment import GradualDeployment
from infra.api.render_function import RenderFunction
from infra.api.rest_api import RestApi
from infra.build.bundling import DECODER_REQUIREMENTS
from infra.build.package_layer import PackageLayer
from infra.dicom_files import DicomFilePolicy
from infra.encryption_key import EncryptionKey
from infra.export.functions import ExportFunction, RequestFunction
from infra.export.queue import ExportQueues
from infra.export.requests import ExportRequests
from infra.frame_store import FrameStore
from infra.operations.alarm_topic import AlarmTopic
from infra.operations.alarms import Alarms
from infra.operations.dashboard import Dashboard
from infra.operations.key_watch import KeyWatch
from infra.operations.saved_queries import SavedQueries
from infra.operations.unusual_reads import UnusualReads
from infra.operations.watched import WatchedResources
from infra.tables.catalog import TableCatalog
from infra.tables.table_function import TableFunction
from infra.tables.table_queue import TableQueue

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


class FramegateStack(Stack):
    """The stack that serves and exports the frames of the configured data stores.

    Parameters
    ----------
    scope : Construct
        The CDK application.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        The configuration of the deployment.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config) -> None:
        super().__init__(
            scope,
            construct_id,
            stack_name=config.stack_name,
            description="Framegate: image frames of AWS HealthImaging by URL and in S3",
            termination_protection=config.environment == "production",
        )
        key = EncryptionKey(self, "Key", config=config)
        frame_store = FrameStore(self, "FrameStore", config=config, key=key)
        queues = ExportQueues(self, "ExportQueue", config=config, frame_store=frame_store)
        function = ApiFunction(
            self, "ApiFunction", config=config, frame_store=frame_store, queue=queues.deferred_stores
        )
        render_function = RenderFunction(self, "RenderFunction", config=config, frame_store=frame_store)
        api = RestApi(
            self,
            "RestApi",
            config=config,
            key=key,
            handler=function.alias,
            picture_handler=render_function.function,
            authorization=authorization(self, config, key),
        )
        decoder = PackageLayer(
            self,
            "Decoder",
            config=config,
            requirements=DECODER_REQUIREMENTS,
            description="Decoders of JPEG 2000 and HTJ2K, which verify the pixels of exported frames",
        )
        export_function = ExportFunction(
            self,
            "ExportFunction",
            config=config,
            frame_store=frame_store,
            queues=queues,
            decoder=decoder,
        )
        request_function = RequestFunction(
            self, "RequestFunction", config=config, frame_store=frame_store, decoder=decoder
        )
        if config.writes_dicom_files:
            DicomFilePolicy(
                self,
                "DicomFiles",
                config=config,
                frame_store=frame_store,
                roles=[function.role, export_function.role, request_function.role],
            )
        requests = ExportRequests(
            self,
            "ExportRequests",
            config=config,
            frame_store=frame_store,
            function=request_function.function,
            dead_letters=queues.dead_letters,
        )
        table_function = table_queue = None
        if config.dataset_tables:
            table_queue = TableQueue(self, "TableQueue", config=config, frame_store=frame_store)
            table_function = TableFunction(
                self, "TableFunction", config=config, frame_store=frame_store, table_queue=table_queue
            )
            CfnOutput(
                self,
                "TableQueueUrl",
                value=table_queue.queue.queue_url,
                description="Queue of image sets whose rows in the tables may have changed",
            )
        if config.dataset_catalog:
            catalog = TableCatalog(self, "TableCatalog", config=config, frame_store=frame_store)
            CfnOutput(self, "TableDatabase", value=catalog.database_name, description="Glue database of the tables")
            CfnOutput(
                self, "TableWorkgroup", value=catalog.workgroup_name, description="Athena workgroup of the tables"
            )
        watched = WatchedResources(
            api_function=function.alias,
            render_function=render_function.function,
            export_function=export_function.function,
            request_function=request_function.function,
            queue=queues.queue,
            dead_letters=queues.dead_letters,
            deferred_stores=queues.deferred_stores,
            deferred_store_dead_letters=queues.deferred_store_dead_letters,
            state_machine=requests.state_machine,
            table_function=table_function.function if table_function else None,
            table_dead_letters=table_queue.dead_letters if table_queue else None,
        )
        alarms = Alarms(self, "Alarms", config=config, watched=watched)
        unusual_reads = UnusualReads(
            self, "UnusualReads", config=config, log_groups=[function.log_group, render_function.log_group]
        )
        alarm_topic = AlarmTopic(
            self, "AlarmTopic", config=config, key=key, alarms=alarms.all, unusual_reads=unusual_reads
        )
        key_watch = KeyWatch(self, "KeyWatch", config=config, key=key)
        if config.deploys_gradually:
            GradualDeployment(self, "GradualDeployment", function=function, alarms=alarms.of_deployments)
        log_alarm = cloudwatch.Alarm.from_alarm_arn(self, "UnusualReadsAlarm", unusual_reads.alarm_arn)
        dashboard = Dashboard(self, "Dashboard", config=config, alarms=[*alarms.all, log_alarm], watched=watched)
        SavedQueries(
            self,
            "SavedQueries",
            config=config,
            api_logs=[function.log_group, render_function.log_group],
            access_log=api.access_logs,
            export_logs=[export_function.log_group, request_function.log_group],
        )
        CfnOutput(self, "ApiUrl", value=api.url, description="Base URL of the REST API")
        CfnOutput(
            self,
            "FrameBucketName",
            value=frame_store.bucket.bucket_name,
            description="Bucket of frames, frame indexes, export manifests and request manifests",
        )
        CfnOutput(
            self,
            "ExportQueueUrl",
            value=queues.queue.queue_url,
            description="Queue of exports on events, and removals",
        )
        CfnOutput(
            self,
            "ExportDeadLetterQueueUrl",
            value=queues.dead_letters.queue_url,
            description="Queue of exports and removals that failed for good",
        )
        CfnOutput(
            self,
            "DeferredStoreQueueUrl",
            value=queues.deferred_stores.queue_url,
            description="Queue of frames that took too long for a request",
        )
        CfnOutput(
            self,
            "DeferredStoreDeadLetterQueueUrl",
            value=queues.deferred_store_dead_letters.queue_url,
            description="Queue of deferred stores that failed for good",
        )
        CfnOutput(
            self,
            "ExportStateMachineArn",
            value=requests.state_machine.state_machine_arn,
            description="State machine that processes request manifests",
        )
        CfnOutput(self, "AlarmTopicArn", value=alarm_topic.topic.topic_arn, description="Topic of the alarms")
        CfnOutput(self, "KeyTopicArn", value=key_watch.topic.topic_arn, description="Topic of changes of the key")
        CfnOutput(self, "DashboardName", value=dashboard.name, description="CloudWatch dashboard")
        CfnOutput(self, "DatastoreIds", value=",".join(config.datastore_ids), description="Served data stores")
        CfnOutput(self, "Auth", value=config.auth, description="How callers are authorized: iam, cognito or jwt")
        Tags.of(self).add("Application", "Framegate")
