"""A global model that leaves its run: its weights as other programs read them, and its card."""
