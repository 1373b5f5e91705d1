"""Exports of image sets to S3: orders, copying, manifests, records, removal."""
