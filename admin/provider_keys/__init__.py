"""Provider keys that an organization brings: set, replaced and revoked. Never shown again, but for four
characters."""
