"""Learners that adapt by gradient steps."""
