"""Scoring models on test sets."""
