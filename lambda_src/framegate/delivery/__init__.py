"""How a frame reaches a client: inline, in part, by pre-signed URL, or after a deferred store."""
