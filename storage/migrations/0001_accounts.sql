-- Organizations, the people in them, and their web sessions.
--
-- Roles: `karta_gateway` (the data plane) and `karta_admin` (the control plane) exist before this runs. Each is granted,
-- column by column, what its code reads and writes, and nothing else; neither owns anything. Nothing but sessions can
-- be deleted by either.

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO karta_gateway, karta_admin;
GRANT SELECT ON schema_migrations TO karta_gateway, karta_admin;

CREATE TABLE organizations (
    org_id     uuid PRIMARY KEY,
    name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    plan       text NOT NULL CHECK (plan IN ('free', 'pro', 'enterprise')),
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    -- Input to the organization's own key-wrapping key. Not a secret, but unique to it and never changed.
    salt       bytea NOT NULL UNIQUE CHECK (octet_length(salt) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX organizations_created ON organizations (created_at, org_id);
GRANT SELECT (org_id, plan, status, salt) ON organizations TO karta_gateway;
GRANT SELECT, INSERT, UPDATE (name, plan, status) ON organizations TO karta_admin;

CREATE TABLE users (
    user_id         uuid PRIMARY KEY,
    email           text NOT NULL UNIQUE CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    password_digest bytea NOT NULL CHECK (octet_length(password_digest) = 60),
    created_at      timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE (email, password_digest) ON users TO karta_admin;

CREATE TABLE memberships (
    org_id     uuid NOT NULL REFERENCES organizations,
    user_id    uuid NOT NULL REFERENCES users,
    role       text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);
GRANT SELECT, INSERT, UPDATE (role) ON memberships TO karta_admin;

CREATE TABLE sessions (
    -- SHA-256 of the cookie's random token: what is stored here opens nothing.
    token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    user_id      uuid NOT NULL REFERENCES users,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
GRANT SELECT, INSERT, DELETE, UPDATE (expires_at) ON sessions TO karta_admin;
