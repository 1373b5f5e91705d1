"""The frame index: what frames an image set has."""
