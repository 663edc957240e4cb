"""Second factors: an authenticator app, passkeys, recovery codes; set up here, asked for at sign-in."""
