"""Status: how Karta is now and was, and what was told of it; also while the database is away."""
