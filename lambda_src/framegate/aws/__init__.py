"""Transport to AWS: signed HTTP, connections, clients, retries, errors, checksums, event bus and queue."""
