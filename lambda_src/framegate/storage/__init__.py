"""The bucket: objects, uploads and stored frames."""
