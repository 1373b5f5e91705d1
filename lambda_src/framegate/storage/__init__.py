"""The bucket: objects, uploads, and the frames that are stored there."""
