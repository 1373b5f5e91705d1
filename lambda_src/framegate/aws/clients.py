"""The one place that builds AWS sessions and clients, each on first use and then kept."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import botocore.session

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3_CONNECTIONS = 4
"""Calls of S3 that can be under way at the same time: the parts of an upload (frame_store.py), and one beside them."""


@cache
def session() -> botocore.session.Session:
    """The session that holds credentials and Region."""
    return botocore.session.get_session()


@cache
def s3() -> S3Client:
    """The S3 client.

    For pre-signed URLs, SigV4 and the bucket's regional host are asked for by name. botocore still defaults to SigV2,
    which S3 refuses for an object encrypted with a KMS key, and to the global host, which redirects elsewhere with a
    signature that is not good there.
    """
    # boto3 costs tens of milliseconds to import and only frames above the inline limit need S3.
    import boto3
    from botocore.config import Config

    return boto3.Session(botocore_session=session()).client(
        "s3",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
            connect_timeout=2,
            read_timeout=5,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=S3_CONNECTIONS,
        ),
    )
