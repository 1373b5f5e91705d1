"""Turns stored pixels into pictures."""
