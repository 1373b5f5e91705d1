"""AWS HealthImaging: its client, identifiers, media types and image set metadata."""
