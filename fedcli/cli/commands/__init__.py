"""One file per command: its signature, the call of the step, the call of the renderer."""
