"""Linen layers that two or more systems share."""
