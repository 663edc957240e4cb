"""Usage: what an organization's requests were and cost, by day, key, model and provider; single requests."""
