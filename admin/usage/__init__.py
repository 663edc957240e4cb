"""Usage: what an organization's requests were and cost, by day, key and model."""
