"""Execution of the steps of a run as processes, several at a time."""
