"""The client's side of a round: its data, its training, its update."""
