-- Organizations in their members' hands: invitations, and an end that can be taken back for a while.

ALTER TABLE organizations
    -- When what is left of it goes. Until then it is suspended, and an owner may keep it after all.
    ADD COLUMN delete_after  timestamptz,
    -- Whether it was active when its end was asked for: only then does keeping it make it so again.
    ADD COLUMN active_before boolean NOT NULL DEFAULT true,
    ADD COLUMN deleted_at    timestamptz;
GRANT UPDATE (delete_after, active_before, deleted_at) ON organizations TO karta_admin;
CREATE INDEX organizations_due ON organizations (delete_after) WHERE delete_after IS NOT NULL AND deleted_at IS NULL;

CREATE TABLE invitations (
    invitation_id uuid PRIMARY KEY,
    org_id        uuid NOT NULL REFERENCES organizations,
    email         text NOT NULL CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    role          text NOT NULL CHECK (role IN ('admin', 'developer', 'billing', 'viewer')),
    -- SHA-256 of the token in the mail's link.
    token_digest  bytea NOT NULL UNIQUE CHECK (octet_length(token_digest) = 32),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    UNIQUE (org_id, email)
);
GRANT SELECT, INSERT, DELETE, UPDATE (invitation_id, role, token_digest, created_at, expires_at) ON invitations
    TO karta_admin;
