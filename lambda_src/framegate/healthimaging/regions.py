"""The Regions of AWS HealthImaging, and so those in which Framegate can be deployed.

References
----------
AWS General Reference, "AWS HealthImaging endpoints and quotas". botocore lists no Regions for this service.
"""

from __future__ import annotations

REGIONS = {
    "us-east-1": "N. Virginia",
    "us-west-2": "Oregon",
    "ap-southeast-2": "Sydney",
    "eu-west-1": "Ireland",
    "eu-west-2": "London",
}
"""The names of the Regions, in the order of AWS's table."""

FIPS_REGIONS = ("us-east-1", "us-west-2")
"""The Regions in which HealthImaging also has endpoints validated for FIPS 140."""
