"""Which letters a person gets."""
