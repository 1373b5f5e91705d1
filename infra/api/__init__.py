"""The REST API: its endpoint, its functions, and who may call it."""
