"""The client's side of a round: its data, its training, what it delivers."""
