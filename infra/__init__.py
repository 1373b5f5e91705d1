"""The CDK application that deploys Framegate."""
