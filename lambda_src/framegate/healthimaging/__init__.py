"""AWS HealthImaging: client, identifiers, media types and image set metadata."""
