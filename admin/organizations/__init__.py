"""Organizations: making one, its settings, its members and invitations, and its end."""
