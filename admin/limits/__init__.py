"""Limits and budgets: of an organization, and of one of its keys."""
