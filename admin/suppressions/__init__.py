"""Addresses that get no mail: told by Postmark, looked at and lifted by staff."""
