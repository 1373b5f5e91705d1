"""What an account of AWS lets through: its quotas, and the token buckets that most of them are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """Quotas of an account as AWS sets them at first."""

    api_rate: float = 10_000  # Amazon API Gateway developer guide, "Quotas"; 2500 in newer Regions
    concurrency: int = 1000  # AWS Lambda developer guide, "Lambda quotas"
    frame_rate: float = 1000  # AWS HealthImaging developer guide, "Throttling limits", this and the next three
    frame_burst: float = 2000
    metadata_rate: float = 50
    metadata_burst: float = 100


@dataclass(slots=True)
class Bucket:
    """A token bucket (Amazon API Gateway developer guide, "Throttle requests to your REST APIs")."""

    rate: float
    burst: float
    tokens: float
    at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether a call is let through."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def reserve(self, now: float, count: int) -> float:
        """Seconds until so many calls are let through."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate) - count
        self.at = now
        return max(0.0, -self.tokens / self.rate)
