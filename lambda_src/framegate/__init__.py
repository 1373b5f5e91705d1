"""Framegate: image frames out of AWS HealthImaging, by URL and in S3."""
