"""Outgoing webhooks: where messages may go, how they get there, and the pages about them."""
