"""The export: its queue, its functions, and the state machine for request manifests."""
