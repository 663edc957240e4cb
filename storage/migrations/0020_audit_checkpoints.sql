-- The audit log holds under many writers, its ends are signed, and old months leave in an order that still proves.

-- Hashes are over UTF-8, and the lengths in them are what the database counts.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'Karta needs a database whose encoding is UTF8';
    END IF;
END
$$;

-- As in 0002, but waiting writers queue up behind one lock of the chain's own instead of behind the row of its head: with
-- fifty of them that is two and a half times as many rows a second (docs/decisions/0100). The number is arbitrary, and
-- only this function's.
CREATE OR REPLACE FUNCTION audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    head record;
    micros text;
BEGIN
    -- Ten seconds: longer than a statement may wait between its default and this check.
    IF abs(extract(epoch FROM clock_timestamp() - NEW.created_at)) > 10 THEN
        RAISE EXCEPTION 'audit log is append-only'
            USING ERRCODE = 'KA001', HINT = 'Leave created_at out: it is the database''s own time.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.org_id::text, 4738126500002));
    SELECT h.seq, h.hash INTO head FROM public.audit_heads h WHERE h.org_id = NEW.org_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.audit_heads (org_id, seq, hash)
        VALUES (NEW.org_id, 0, sha256(audit_field('karta audit log') || audit_field(NEW.org_id::text)))
        RETURNING seq, hash INTO head;
    END IF;
    NEW.seq := head.seq + 1;
    NEW.prev_hash := head.hash;
    micros := (extract(epoch FROM NEW.created_at) * 1000000)::bigint::text;
    NEW.hash := sha256(
        int4send(octet_length(NEW.prev_hash)) || NEW.prev_hash
        || int4send(36) || convert_to(NEW.org_id::text, 'UTF8')
        || int4send(octet_length(NEW.seq::text)) || convert_to(NEW.seq::text, 'UTF8')
        || int4send(octet_length(micros)) || convert_to(micros, 'UTF8')
        || int4send(octet_length(NEW.event)) || convert_to(NEW.event, 'UTF8')
        || int4send(octet_length(NEW.actor_kind)) || convert_to(NEW.actor_kind, 'UTF8')
        || int4send(octet_length(NEW.actor_id)) || convert_to(NEW.actor_id, 'UTF8')
        || int4send(octet_length(NEW.subject)) || convert_to(NEW.subject, 'UTF8')
        || coalesce(int4send(octet_length(NEW.address)) || convert_to(NEW.address, 'UTF8'), '\xffffffff')
        || coalesce(int4send(octet_length(NEW.user_agent)) || convert_to(NEW.user_agent, 'UTF8'), '\xffffffff')
        || coalesce(int4send(octet_length(NEW.request_id)) || convert_to(NEW.request_id, 'UTF8'), '\xffffffff')
        || int4send(octet_length(NEW.details::text)) || convert_to(NEW.details::text, 'UTF8')
    );
    UPDATE public.audit_heads SET seq = NEW.seq, hash = NEW.hash WHERE org_id = NEW.org_id;
    RETURN NEW;
END
$$;

-- The head of a busy chain changes a thousand times a second: room for that on its own page, with nothing to vacuum.
ALTER TABLE audit_heads SET (fillfactor = 40);

-- The keys that heads are signed with (Ed25519): the public half for everybody, the private half sealed under the master
-- key. Not bound to anything but each other, so that a key which somebody slipped in shows: it does not open.
CREATE TABLE audit_signing_keys (
    key_id     text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{16}$'),
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What a chain was at a moment, signed. 'head': it reached this row. 'base': what went up to this row was dropped, being
-- old, and the next row follows it.
CREATE TABLE audit_checkpoints (
    org_id    uuid NOT NULL,
    seq       bigint NOT NULL CHECK (seq > 0),
    kind      text NOT NULL CHECK (kind IN ('head', 'base')),
    hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
    signed_at timestamptz NOT NULL,
    key_id    text NOT NULL REFERENCES audit_signing_keys,
    signature bytea NOT NULL CHECK (octet_length(signature) = 64),
    PRIMARY KEY (org_id, seq, kind)
);

CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
-- The private half may be sealed anew, under another master key. Nothing else of a key changes.
CREATE TRIGGER refuse_row BEFORE UPDATE OF key_id, public_key, created_at OR DELETE ON audit_signing_keys
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_checkpoints ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE audit_checkpoints ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE audit_signing_keys ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE audit_signing_keys ENABLE ALWAYS TRIGGER refuse_truncate;

GRANT SELECT, INSERT, UPDATE (sealed) ON audit_signing_keys TO karta_admin;
GRANT SELECT, INSERT ON audit_checkpoints TO karta_admin;

-- The months that ended before `kept_since`, oldest first, and the last row of each chain in each. No month is named
-- while an older row is kept in the default partition: a chain leaves from its beginning, without holes.
CREATE FUNCTION audit_months(kept_since timestamptz)
RETURNS TABLE (month text, org_id uuid, seq bigint, hash bytea)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    IF kept_since > now() - interval '365 days' THEN
        RAISE EXCEPTION 'audit rows are kept for 365 days at least'
            USING ERRCODE = 'KA001', HINT = 'Ask for more days.';
    END IF;
    FOR name IN
        SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.audit_log'::regclass AND c.relname ~ '^audit_log_\d{4}_\d{2}$'
         ORDER BY c.relname
    LOOP
        EXIT WHEN audit_month_end(name) > kept_since
               OR EXISTS (SELECT FROM public.audit_log_default d WHERE d.created_at < audit_month_end(name));
        RETURN QUERY SELECT name, NULL::uuid, NULL::bigint, NULL::bytea;
        RETURN QUERY EXECUTE format(
            'SELECT DISTINCT ON (m.org_id) %L::text, m.org_id, m.seq, m.hash FROM public.%I m'
            ' ORDER BY m.org_id, m.seq DESC', name, name);
    END LOOP;
END
$$;

CREATE FUNCTION audit_month_end(name text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT (to_timestamp(right(name, 7), 'YYYY_MM')::timestamp + interval '1 month') AT TIME ZONE 'UTC'
$$;

-- Drops those months; refuses while the last row of a chain in one has no signed base. For the owner only.
CREATE FUNCTION drop_audit_months(kept_since timestamptz) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    months text[];
    name   text;
BEGIN
    LOCK TABLE public.audit_log IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM audit_months(kept_since) m
                WHERE m.org_id IS NOT NULL
                  AND NOT EXISTS (SELECT FROM public.audit_checkpoints c
                                   WHERE c.kind = 'base' AND (c.org_id, c.seq, c.hash) = (m.org_id, m.seq, m.hash)))
    THEN
        RAISE EXCEPTION 'a chain would end without a signed base'
            USING ERRCODE = 'KA001', HINT = 'Use `karta audit retention`.';
    END IF;
    months := ARRAY(SELECT DISTINCT m.month FROM audit_months(kept_since) m ORDER BY 1);
    FOREACH name IN ARRAY months LOOP
        EXECUTE format('DROP TABLE public.%I', name);
    END LOOP;
    RETURN months;
END
$$;
REVOKE EXECUTE ON FUNCTION audit_months(timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit_month_end(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION drop_audit_months(timestamptz) FROM PUBLIC;
