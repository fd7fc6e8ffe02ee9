"""Learners whose start depends on the support."""
