"""Exports image sets to S3, and removes deleted ones."""
