"""The permissions to write and read DICOM files, which contain patient data: a policy of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from framegate.bucket_layout import INSTANCE_PREFIX
from infra.permissions import acknowledge_objects, allow, data_stores, objects_of, use_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore

DATASET_ACTIONS = ("GetDICOMSeriesMetadata", "GetDICOMInstance", "GetDICOMBulkdata")
"""The actions of HealthImaging's DICOMweb that writing DICOM files takes. Each applies to a data store.

References
----------
Service Authorization Reference, "Actions, resources, and condition keys for AWS HealthImaging".
"""


class DicomFilePolicy(iam.ManagedPolicy):
    """The policy of the functions that write DICOM files. It exists only if the deployment writes them.

    The inline policies of the roles have no room for it: IAM allows 10,240 characters.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the data stores.
    frame_store : FrameStore
        The bucket of the files.
    roles : sequence of iam.Role
        The roles of the functions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        roles: Sequence[iam.Role],
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="Allows the functions to write DICOM files, which contain patient data",
            roles=list(roles),
            statements=[
                allow(
                    "ReadDatasets",
                    [f"medical-imaging:{each}" for each in DATASET_ACTIONS],
                    *data_stores(Stack.of(scope), config),
                ),
                allow(
                    "StoreDicomFiles",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    *objects_of(frame_store, config, INSTANCE_PREFIX),
                ),
                use_key(frame_store, "s3", sid="EncryptDicomFiles"),
            ],
        )
        acknowledge_objects(self, frame_store, config, INSTANCE_PREFIX)
