"""Keys of the management API: listed, minted with fresh proof, and revoked."""
