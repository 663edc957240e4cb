-- Second factors: codes of an authenticator app, passkeys, and recovery codes for when both are lost.

ALTER TABLE users
    -- Names a user to their passkeys: random, so that an authenticator learns no address and no id of ours.
    ADD COLUMN passkey_handle bytea UNIQUE CHECK (octet_length(passkey_handle) = 64);
GRANT UPDATE (passkey_handle) ON users TO karta_admin;

ALTER TABLE organizations
    -- Members without a second factor see nothing of the organization until they have one.
    ADD COLUMN mfa_required boolean NOT NULL DEFAULT false;
GRANT UPDATE (mfa_required) ON organizations TO karta_admin;

CREATE TABLE totp_factors (
    user_id       uuid PRIMARY KEY REFERENCES users,
    -- Sealed for this user (storage/sealed_box.py).
    sealed_secret bytea NOT NULL CHECK (octet_length(sealed_secret) <= 256),
    -- The newest step of which a code was taken: neither it nor an older one is taken again.
    last_step     bigint NOT NULL DEFAULT 0,
    -- Counts from here on: a code was shown that proves that the app has the secret.
    confirmed_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, DELETE, UPDATE (sealed_secret, last_step, confirmed_at, created_at) ON totp_factors TO karta_admin;

CREATE TABLE passkeys (
    credential_id bytea PRIMARY KEY CHECK (octet_length(credential_id) BETWEEN 1 AND 1023),
    passkey_id    uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    user_id       uuid NOT NULL REFERENCES users,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    public_key    bytea NOT NULL CHECK (octet_length(public_key) <= 2048),
    sign_count    bigint NOT NULL CHECK (sign_count >= 0),
    backed_up     boolean NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE INDEX passkeys_user ON passkeys (user_id, created_at);
GRANT SELECT, INSERT, DELETE, UPDATE (sign_count, backed_up, last_used_at, name) ON passkeys TO karta_admin;

-- What a browser is to sign next. Taken away before it is checked, so each is used once.
CREATE TABLE passkey_challenges (
    challenge  bytea PRIMARY KEY CHECK (octet_length(challenge) = 32),
    purpose    text NOT NULL CHECK (purpose IN ('register', 'sign_in', 'second_factor', 'proof')),
    -- Digest of the cookie of the browser that asked: another browser cannot use it.
    holder     bytea NOT NULL CHECK (octet_length(holder) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_challenges_expiry ON passkey_challenges (expires_at);
CREATE INDEX passkey_challenges_holder ON passkey_challenges (holder);
GRANT SELECT, INSERT, DELETE, UPDATE (expires_at) ON passkey_challenges TO karta_admin;

CREATE TABLE recovery_codes (
    user_id     uuid NOT NULL REFERENCES users,
    -- SHA-256 over 120 random bits and the user's id.
    code_digest bytea NOT NULL CHECK (octet_length(code_digest) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, code_digest)
);
GRANT SELECT, INSERT, DELETE ON recovery_codes TO karta_admin;

-- Somebody whose password was right and whose second factor is still to come. Signs nobody in by itself.
CREATE TABLE pending_sign_ins (
    token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    user_id      uuid NOT NULL REFERENCES users,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX pending_sign_ins_expiry ON pending_sign_ins (expires_at);
CREATE INDEX pending_sign_ins_user ON pending_sign_ins (user_id);
GRANT SELECT, INSERT, DELETE, UPDATE (expires_at) ON pending_sign_ins TO karta_admin;
