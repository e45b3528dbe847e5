"""Where the steps of a run are executed, and how many at a time."""
