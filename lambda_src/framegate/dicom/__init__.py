"""What an image frame is: identifiers and media types, pure and without I/O."""
