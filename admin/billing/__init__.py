"""Plans, what was used of them, and payments."""
