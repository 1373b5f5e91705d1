"""The Regions of AWS HealthImaging, which are those that Framegate can be deployed to.

AWS General Reference, "AWS HealthImaging endpoints and quotas". botocore has no list for this service.
"""

from __future__ import annotations

HEALTHIMAGING_REGIONS = {
    "us-east-1": "N. Virginia",
    "us-west-2": "Oregon",
    "ap-southeast-2": "Sydney",
    "eu-west-1": "Ireland",
    "eu-west-2": "London",
}
"""Regions with their names, in the order of AWS's table."""

FIPS_REGIONS = ("us-east-1", "us-west-2")
"""Regions in which HealthImaging also has endpoints validated under FIPS 140."""
