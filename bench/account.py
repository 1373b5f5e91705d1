"""Models the quotas of an AWS account, most of which are token buckets."""

from __future__ import annotations

from dataclasses import dataclass

GET_IMAGE_FRAME, GET_IMAGE_SET_METADATA, GET_IMAGE_SET = "GetImageFrame", "GetImageSetMetadata", "GetImageSet"


@dataclass(frozen=True, slots=True)
class Account:
    """The default quotas of an account: calls per second, calls at once, and concurrent functions."""

    api_rate: float = 10_000  # Amazon API Gateway developer guide, "Quotas"; 2500 in newer Regions
    concurrency: int = 1000  # AWS Lambda developer guide, "Lambda quotas"
    frame_rate: float = 1000  # AWS HealthImaging developer guide, "Throttling limits", as the next five
    frame_burst: float = 2000
    metadata_rate: float = 50
    metadata_burst: float = 100
    image_set_rate: float = 25
    image_set_burst: float = 50

    def quota(self, operation: str) -> tuple[float, float]:
        """The quota of a HealthImaging operation: calls per second, and calls at once."""
        return {
            GET_IMAGE_FRAME: (self.frame_rate, self.frame_burst),
            GET_IMAGE_SET_METADATA: (self.metadata_rate, self.metadata_burst),
            GET_IMAGE_SET: (self.image_set_rate, self.image_set_burst),
        }[operation]


@dataclass(slots=True)
class Bucket:
    """A token bucket (Amazon API Gateway developer guide, "Throttle requests to your REST APIs")."""

    rate: float
    burst: float
    tokens: float
    at: float = 0.0

    def take(self, now: float) -> bool:
        """Take a token for a call; return False if there is none."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def reserve(self, now: float, count: int) -> float:
        """Take tokens for this many calls; return the seconds until all of them are available."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate) - count
        self.at = now
        return max(0.0, -self.tokens / self.rate)
