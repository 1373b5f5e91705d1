"""Runs outside security auditors over the template, the IAM policies, the code and the API: ``make audit``."""
