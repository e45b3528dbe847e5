"""From the updates of a round and a rule to the next global model."""
