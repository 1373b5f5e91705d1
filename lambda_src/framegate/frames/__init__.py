"""What is done with image frames."""
