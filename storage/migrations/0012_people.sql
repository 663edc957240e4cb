-- What people do with their accounts: sessions that end when left idle, links sent by mail, the mail itself, and the
-- counting that keeps strangers from trying too often.
--
-- karta_admin may delete from these tables, beyond sessions, because their rows are spent, not kept: a link that was
-- followed, a count that has run out. What they did is in the audit log.

ALTER TABLE sessions
    -- Names a session on a page; the digest of its token never leaves the database.
    ADD COLUMN session_id    uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    ADD COLUMN last_seen_at  timestamptz NOT NULL DEFAULT now(),
    -- When the person last proved who they are, in this session.
    ADD COLUMN stepped_up_at timestamptz,
    ADD COLUMN method        text NOT NULL DEFAULT 'password'
               CHECK (method IN ('password', 'password_totp', 'password_passkey', 'password_recovery_code', 'passkey')),
    ADD COLUMN address       text CHECK (char_length(address) <= 64),
    ADD COLUMN user_agent    text CHECK (char_length(user_agent) <= 512),
    -- What a prompt for proof interrupted, to be offered again after it: a path and the form's harmless fields, as JSON.
    ADD COLUMN interrupted   text CHECK (octet_length(interrupted) <= 8192);
GRANT UPDATE (token_digest, last_seen_at, stepped_up_at, interrupted) ON sessions TO karta_admin;

ALTER TABLE users
    -- An account that was deleted keeps its row, for what refers to it, without address or password.
    ADD COLUMN deleted_at timestamptz;
GRANT UPDATE (deleted_at) ON users TO karta_admin;

-- Links sent by mail. Whoever follows one reads that address's mail: no account is made before.
CREATE TABLE email_links (
    -- SHA-256 of the link's random token.
    token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    purpose      text NOT NULL CHECK (purpose IN ('sign_up', 'reset_password', 'change_email')),
    email        text NOT NULL CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    user_id      uuid REFERENCES users,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    CHECK ((purpose = 'sign_up') = (user_id IS NULL)),
    -- A newer link for the same thing replaces the older one, which also bounds the table.
    UNIQUE (purpose, email)
);
CREATE INDEX email_links_expiry ON email_links (expires_at);
CREATE INDEX email_links_user ON email_links (user_id);
GRANT SELECT, INSERT, DELETE, UPDATE (token_digest, user_id, created_at, expires_at) ON email_links TO karta_admin;

-- Mail to be sent, put here by the transaction that causes it: no change without its mail, no mail without its change.
-- Subject and text are sealed, since some hold links that open an account; a copy of the database must not.
CREATE TABLE outbox (
    message_id uuid PRIMARY KEY,
    kind       text NOT NULL CHECK (kind ~ '^[a-z_]{1,40}$'),
    recipient  text NOT NULL CHECK (char_length(recipient) BETWEEN 3 AND 254),
    sealed     bytea CHECK (octet_length(sealed) <= 16384),
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz,
    -- What was sent is forgotten.
    CHECK (sent_at IS NULL OR sealed IS NULL)
);
CREATE INDEX outbox_due ON outbox (created_at, message_id) WHERE sent_at IS NULL;
GRANT SELECT, INSERT, UPDATE (sealed, sent_at), DELETE ON outbox TO karta_admin;

-- How often something was tried, shared by all processes. `free_at` is when all that was used will have come back (the
-- generic cell rate algorithm): one time says it all. Not logged: after a crash the counting begins anew.
CREATE UNLOGGED TABLE throttles (
    rule    text NOT NULL CHECK (char_length(rule) <= 40),
    -- A digest of the address or account that is counted: this is no register of who was here.
    subject bytea NOT NULL CHECK (octet_length(subject) = 16),
    free_at timestamptz NOT NULL,
    PRIMARY KEY (rule, subject)
);
CREATE INDEX throttles_free ON throttles (free_at);
GRANT SELECT, INSERT, UPDATE (free_at), DELETE ON throttles TO karta_admin;

-- Who leaves an organization is no member any more; that they were is in the audit log.
GRANT DELETE ON memberships TO karta_admin;
