-- What a key may be used for, besides its models: which endpoints, and from where.

ALTER TABLE api_keys
    -- First segments of paths behind /v1/: `messages`, `chat`.
    ADD COLUMN allowed_endpoints text[] CHECK (cardinality(allowed_endpoints) BETWEEN 1 AND 100),
    ADD COLUMN allowed_networks  cidr[] CHECK (cardinality(allowed_networks) BETWEEN 1 AND 100);
GRANT SELECT (allowed_endpoints, allowed_networks) ON api_keys TO karta_gateway;
GRANT SELECT (allowed_endpoints, allowed_networks), INSERT (allowed_endpoints, allowed_networks),
      UPDATE (allowed_endpoints, allowed_networks) ON api_keys TO karta_admin;

DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed AFTER UPDATE ON api_keys FOR EACH ROW
    WHEN ((OLD.org_id, OLD.mode, OLD.secret_digest, OLD.expires_at, OLD.revoked_at, OLD.allowed_models,
           OLD.allowed_endpoints, OLD.allowed_networks, OLD.billed_elsewhere)
          IS DISTINCT FROM
          (NEW.org_id, NEW.mode, NEW.secret_digest, NEW.expires_at, NEW.revoked_at, NEW.allowed_models,
           NEW.allowed_endpoints, NEW.allowed_networks, NEW.billed_elsewhere))
    EXECUTE FUNCTION notify_change();
