"""The frame index: lists the frames of image sets."""
