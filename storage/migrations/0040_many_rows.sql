-- What got slow with hundreds of thousands of rows: pages of the platform's operators, and the turn of the month.

CREATE INDEX stripe_events_open ON stripe_events (state, received_at DESC, event_id DESC) WHERE state <> 'done';
CREATE INDEX outbox_failed ON outbox (ended_at DESC, message_id) WHERE state = 'failed';
CREATE INDEX organizations_suspended ON organizations (created_at, org_id)
    WHERE status = 'suspended' AND deleted_at IS NULL;

-- The month whose included credit an organization was given last, and how much of it: the few that are behind are found
-- without adding up the ledger of all. The ledger alone decides what is given; older programs leave this as it is.
ALTER TABLE organizations
    ADD COLUMN turned_month timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN turned_given bigint NOT NULL DEFAULT 0;
CREATE INDEX organizations_turned ON organizations (plan, turned_month, turned_given)
    WHERE status = 'active' AND deleted_at IS NULL;
GRANT UPDATE (turned_month, turned_given) ON organizations TO karta_admin;
