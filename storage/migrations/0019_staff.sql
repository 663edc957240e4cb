-- Platform operators, and what they may do to an organization.

-- Who is one is for the owner of the schema to say (`karta staff`): the pages can look, and forget somebody who leaves.
CREATE TABLE staff (
    user_id    uuid PRIMARY KEY REFERENCES users,
    granted_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, DELETE ON staff TO karta_admin;

ALTER TABLE organizations
    -- Why staff suspended it, for its members to read. Only staff lift such a suspension.
    ADD COLUMN suspension_reason text CHECK (char_length(suspension_reason) BETWEEN 1 AND 500);
GRANT UPDATE (suspension_reason) ON organizations TO karta_admin;
