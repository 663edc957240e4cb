-- What a plan that ends or changes leaves behind: provider keys that are suspended, and limits that are the plan's own.

ALTER TABLE organizations
    -- How many seats were bought; NULL: as many as the plan comes with.
    ADD COLUMN seats integer CHECK (seats BETWEEN 1 AND 100000);
GRANT UPDATE (seats) ON organizations TO karta_admin;

ALTER TABLE provider_credentials
    -- The plan does not allow it any more. It is kept for a while, in case the plan comes back, and is not used meanwhile.
    ADD COLUMN suspended_at timestamptz;
CREATE INDEX provider_credentials_suspended ON provider_credentials (suspended_at)
    WHERE suspended_at IS NOT NULL AND revoked_at IS NULL;
GRANT SELECT (suspended_at) ON provider_credentials TO karta_gateway;
GRANT SELECT (suspended_at), UPDATE (suspended_at) ON provider_credentials TO karta_admin;

DROP TRIGGER provider_credentials_changed ON provider_credentials;
CREATE TRIGGER provider_credentials_changed AFTER UPDATE ON provider_credentials FOR EACH ROW
    WHEN ((OLD.org_id, OLD.provider, OLD.master_key_version, OLD.wrapped_key, OLD.ciphertext, OLD.revoked_at,
           OLD.suspended_at)
          IS DISTINCT FROM
          (NEW.org_id, NEW.provider, NEW.master_key_version, NEW.wrapped_key, NEW.ciphertext, NEW.revoked_at,
           NEW.suspended_at))
    EXECUTE FUNCTION notify_change();

-- A plan's ceilings are limits beside the organization's own of the same scope; both hold.
ALTER TABLE limits ADD COLUMN of_plan boolean NOT NULL DEFAULT false;
DROP INDEX limits_live;
CREATE UNIQUE INDEX limits_live ON limits (org_id, key_id, model, kind, period, of_plan) NULLS NOT DISTINCT
    WHERE removed_at IS NULL;
GRANT SELECT (of_plan) ON limits TO karta_gateway;
GRANT INSERT (of_plan) ON limits TO karta_admin;
