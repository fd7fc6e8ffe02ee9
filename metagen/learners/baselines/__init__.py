"""Learners without meta-learning, to compare with."""
