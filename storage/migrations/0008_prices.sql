-- Prices that differ from the price library's: an organization's own, or the operator's for everybody.
--
-- A row is never changed but to say that it no longer holds: usage rows name the override they were priced by.

CREATE TABLE price_overrides (
    override_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: the operator's, for every organization.
    org_id      uuid REFERENCES organizations,
    provider    text NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_]{0,31}$'),
    -- A model's name, or the beginning of one and a star.
    model       text NOT NULL CHECK (char_length(model) BETWEEN 1 AND 200 AND model ~ '^[^*]*[*]?$'),
    -- NULL: every tier.
    tier        text CHECK (tier IN ('standard', 'batch', 'flex', 'priority', 'fast')),
    -- Picodollars for one of each class: {"input": 2500000, …}.
    rates       jsonb NOT NULL CHECK (
        jsonb_typeof(rates) = 'object' AND rates <> '{}' AND octet_length(rates::text) <= 2048),
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);
CREATE UNIQUE INDEX price_overrides_live ON price_overrides (org_id, provider, model, tier)
    NULLS NOT DISTINCT WHERE removed_at IS NULL;

GRANT SELECT (override_id, org_id, provider, model, tier, rates, created_at, removed_at)
    ON price_overrides TO karta_gateway;
GRANT SELECT, INSERT (org_id, provider, model, tier, rates), UPDATE (removed_at) ON price_overrides TO karta_admin;

CREATE TRIGGER price_overrides_changed AFTER INSERT OR UPDATE OR DELETE ON price_overrides FOR EACH ROW
    EXECUTE FUNCTION notify_change();
