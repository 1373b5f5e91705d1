"""The edges of the system: what API Gateway and EventBridge hand to Lambda, translated."""
