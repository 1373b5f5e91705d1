"""The Glue database of the tables, and the Athena workgroup that queries them. Only `dataset_catalog` creates them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from constructs import Construct

from framegate.bucket_layout import QUERY_RESULT_PREFIX, table_prefix
from framegate.table_schema import MEANINGS, SCHEMA, TABLES, columns_of

if TYPE_CHECKING:
    from infra.config import Config
    from infra.frame_store import FrameStore

FIRST_MONTH = "2023-07"
"""The month in which HealthImaging became available. No export is older."""

MAX_SCANNED_BYTES = 100 * 1024**3
"""Bytes that one query may scan. The tables of a hundred million frames are smaller."""

_HIVE = "org.apache.hadoop.hive.ql.io.parquet"


class TableCatalog(Construct):
    """The tables as Athena sees them.

    Partitions are projected, so that new months need neither a crawler nor a statement.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the stack name, the data stores and the identifying columns.
    frame_store : FrameStore
        The bucket of the tables and of query results.

    Attributes
    ----------
    database_name : str
        The name of the Glue database.
    workgroup_name : str
        The name of the Athena workgroup.

    References
    ----------
    Amazon Athena user guide, "Use partition projection with Amazon Athena" and "Parquet SerDe".
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        # Athena folds names to lower case, and SQL needs no quotes around letters, digits and underscores.
        self.database_name = re.sub("[^a-z0-9]", "_", config.stack_name.lower())
        self.workgroup_name = config.stack_name
        database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=self.database_name, description=f"Instances and frames that {config.stack_name} has exported"
            ),
        )
        for table in TABLES:
            self._table(table, config, frame_store).add_dependency(database)
        athena.CfnWorkGroup(
            self,
            "Workgroup",
            name=self.workgroup_name,
            description=f"Queries of the tables of {config.stack_name}",
            recursive_delete_option=config.removal_policy == "destroy",
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                bytes_scanned_cutoff_per_query=MAX_SCANNED_BYTES,
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(selected_engine_version="AUTO"),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{frame_store.bucket.bucket_name}/{QUERY_RESULT_PREFIX}",
                    expected_bucket_owner=Aws.ACCOUNT_ID,
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_KMS", kms_key=frame_store.key.key_arn
                    ),
                ),
            ),
        )

    def _table(self, table: str, config: Config, frame_store: FrameStore) -> glue.CfnTable:
        location = f"s3://{frame_store.bucket.bucket_name}/{table_prefix(SCHEMA, table)}"
        return glue.CfnTable(
            self,
            table.capitalize(),
            catalog_id=Aws.ACCOUNT_ID,
            database_name=self.database_name,
            table_input=glue.CfnTable.TableInputProperty(
                name=table,
                description=MEANINGS[table],
                table_type="EXTERNAL_TABLE",
                parameters={
                    "EXTERNAL": "TRUE",
                    "classification": "parquet",
                    "projection.enabled": "true",
                    "projection.datastore_id.type": "enum",
                    "projection.datastore_id.values": ",".join(config.datastore_ids),
                    "projection.month.type": "date",
                    "projection.month.format": "yyyy-MM",
                    "projection.month.range": f"{FIRST_MONTH},NOW",
                    "projection.month.interval": "1",
                    "projection.month.interval.unit": "MONTHS",
                    "storage.location.template": f"{location}datastore_id=${{datastore_id}}/month=${{month}}/",
                },
                partition_keys=[
                    glue.CfnTable.ColumnProperty(name="datastore_id", type="string", comment="The data store"),
                    glue.CfnTable.ColumnProperty(
                        name="month", type="string", comment="Month of the image set's first export in UTC"
                    ),
                ],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    location=location,
                    columns=[
                        glue.CfnTable.ColumnProperty(name=each.name, type=each.type, comment=each.meaning)
                        for each in columns_of(table, config.dataset_columns)
                    ],
                    input_format=f"{_HIVE}.MapredParquetInputFormat",
                    output_format=f"{_HIVE}.MapredParquetOutputFormat",
                    serde_info=glue.CfnTable.SerdeInfoProperty(serialization_library=f"{_HIVE}.serde.ParquetHiveSerDe"),
                ),
            ),
        )
