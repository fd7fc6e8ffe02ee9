"""Processes that share work."""
