-- Tells running gateways what changed, at commit, on the channel `karta_changes`.
--
-- Payload: {"table": …, "org_id": …, "key_id": … or null}; null concerns all keys of the
-- organization. A new key is not told of: nobody can hold an opinion on it.

CREATE FUNCTION notify_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    changed record;
    key_id  text;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    IF TG_TABLE_NAME IN ('api_keys', 'limits') THEN key_id := changed.key_id; END IF;
    PERFORM pg_notify(
        'karta_changes',
        json_build_object('table', TG_TABLE_NAME, 'org_id', changed.org_id, 'key_id', key_id)::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER organizations_changed AFTER UPDATE ON organizations FOR EACH ROW
    WHEN ((OLD.plan, OLD.status) IS DISTINCT FROM (NEW.plan, NEW.status))
    EXECUTE FUNCTION notify_change();
CREATE TRIGGER organizations_deleted AFTER DELETE ON organizations FOR EACH ROW
    EXECUTE FUNCTION notify_change();

-- Not for last_used_at: the gateways themselves write it, and often.
CREATE TRIGGER api_keys_changed AFTER UPDATE ON api_keys FOR EACH ROW
    WHEN ((OLD.org_id, OLD.mode, OLD.secret_digest, OLD.expires_at, OLD.revoked_at, OLD.allowed_models,
           OLD.billed_elsewhere)
          IS DISTINCT FROM
          (NEW.org_id, NEW.mode, NEW.secret_digest, NEW.expires_at, NEW.revoked_at, NEW.allowed_models,
           NEW.billed_elsewhere))
    EXECUTE FUNCTION notify_change();
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys FOR EACH ROW
    EXECUTE FUNCTION notify_change();

CREATE TRIGGER provider_credentials_added AFTER INSERT OR DELETE ON provider_credentials FOR EACH ROW
    EXECUTE FUNCTION notify_change();
CREATE TRIGGER provider_credentials_changed AFTER UPDATE ON provider_credentials FOR EACH ROW
    WHEN ((OLD.org_id, OLD.provider, OLD.master_key_version, OLD.wrapped_key, OLD.ciphertext, OLD.revoked_at)
          IS DISTINCT FROM
          (NEW.org_id, NEW.provider, NEW.master_key_version, NEW.wrapped_key, NEW.ciphertext, NEW.revoked_at))
    EXECUTE FUNCTION notify_change();
