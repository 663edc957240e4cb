"""Karta."""
