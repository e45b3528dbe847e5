"""An experiment in one file: its sections, and the runs of a sweep."""
