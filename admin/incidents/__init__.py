"""Incidents: what the staff tells on the status page, of failures and of maintenance."""
