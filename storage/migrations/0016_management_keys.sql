-- Keys of the management API, and the answers it keeps for who asks the same again.

CREATE TABLE management_keys (
    key_id        text PRIMARY KEY CHECK (key_id ~ '^[0-9A-Za-z]{12}$'),
    org_id        uuid NOT NULL REFERENCES organizations,
    -- Who minted it, and as what: it may never do more than they could then, nor than they can now.
    user_id       uuid NOT NULL REFERENCES users,
    role          text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer')),
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    scopes        text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 100),
    last_four     text NOT NULL CHECK (char_length(last_four) = 4),
    -- bcrypt, and its cost cannot be lowered behind the code's back.
    secret_digest bytea NOT NULL CHECK (
        octet_length(secret_digest) = 60 AND convert_from(secret_digest, 'UTF8') ~ '^\$2b\$(1[2-9]|2[0-9])\$'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Always: what opens this much is renewed now and then.
    expires_at    timestamptz NOT NULL CHECK (expires_at <= created_at + interval '366 days'),
    revoked_at    timestamptz,
    last_used_at  timestamptz
);
CREATE INDEX management_keys_org ON management_keys (org_id, created_at, key_id);
-- The control plane verifies these itself, so it reads the digests.
GRANT SELECT,
      INSERT (key_id, org_id, user_id, role, name, scopes, last_four, secret_digest, expires_at),
      UPDATE (revoked_at, last_used_at)
    ON management_keys TO karta_admin;

-- One row for each idempotency key that was sent in the last day. Of requests only digests are kept, made with the
-- management key's secret, which is not here: bodies hold secrets, and nobody shall guess them from this table.
CREATE TABLE idempotent_requests (
    key_id         text NOT NULL REFERENCES management_keys,
    name_digest    bytea NOT NULL CHECK (octet_length(name_digest) = 32),
    request_digest bytea NOT NULL CHECK (octet_length(request_digest) = 32),
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- Both NULL while the request is under way, and for good when its process died in it.
    status         smallint CHECK (status BETWEEN 200 AND 299),
    -- The answer as JSON, without what is shown once only.
    answer         bytea CHECK (octet_length(answer) <= 131072),
    PRIMARY KEY (key_id, name_digest),
    CHECK ((status IS NULL) = (answer IS NULL))
);
CREATE INDEX idempotent_requests_age ON idempotent_requests (created_at);
GRANT SELECT, INSERT (key_id, name_digest, request_digest), UPDATE (status, answer), DELETE ON idempotent_requests
    TO karta_admin;

-- Who did it may be such a key. Not validated: every row there is obeys the narrower rule that this one replaces.
ALTER TABLE audit_log
    DROP CONSTRAINT audit_log_actor_kind_check,
    ADD CONSTRAINT audit_log_actor_kind_check
        CHECK (actor_kind IN ('user', 'cli', 'gateway', 'system', 'management_key')) NOT VALID;
