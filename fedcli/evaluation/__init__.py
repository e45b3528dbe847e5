"""Score models on test sets."""
