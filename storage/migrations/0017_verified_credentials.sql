-- Whether a provider let a key in when it was set: pages say so, and nothing depends on it.

ALTER TABLE provider_credentials ADD COLUMN verified_at timestamptz;
GRANT SELECT (verified_at), INSERT (verified_at), UPDATE (verified_at) ON provider_credentials TO karta_admin;
