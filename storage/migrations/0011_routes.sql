-- Routes: what an organization means by the name of a model. An alias resolves to targets, tried in their order.

CREATE TABLE route_targets (
    target_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id             uuid NOT NULL REFERENCES organizations,
    -- What a request names as its model.
    alias              text NOT NULL CHECK (char_length(alias) BETWEEN 1 AND 200),
    place              smallint NOT NULL CHECK (place BETWEEN 1 AND 8),
    provider           text NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_]{0,31}$'),
    -- What the provider calls it. It stands in a header of the answer.
    model              text NOT NULL CHECK (model ~ '^[!-~]{1,200}$'),
    -- Neighbours that have one share their place: who of them is asked first is drawn by it.
    weight             smallint CHECK (weight BETWEEN 1 AND 1000),
    -- NULL: the organization's own key, or else the platform's.
    credential         text CHECK (credential IN ('byok', 'platform')),
    -- How long its answer may take to begin; NULL: as long as any.
    first_byte_seconds double precision CHECK (first_byte_seconds BETWEEN 0.1 AND 3600),
    created_at         timestamptz NOT NULL DEFAULT now(),
    -- A route is replaced whole: its earlier targets stay, removed.
    removed_at         timestamptz
);
CREATE UNIQUE INDEX route_targets_live ON route_targets (org_id, alias, place) WHERE removed_at IS NULL;

GRANT SELECT (org_id, alias, place, provider, model, weight, credential, first_byte_seconds, removed_at)
    ON route_targets TO karta_gateway;
GRANT SELECT, INSERT (org_id, alias, place, provider, model, weight, credential, first_byte_seconds),
      UPDATE (removed_at)
    ON route_targets TO karta_admin;

CREATE TRIGGER route_targets_changed AFTER INSERT OR UPDATE ON route_targets FOR EACH ROW
    EXECUTE FUNCTION notify_change();
