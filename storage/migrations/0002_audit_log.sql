-- The audit log: append-only, chained per organization, kept by month.
--
-- Why so many triggers. A row trigger for UPDATE and DELETE is not enough: TRUNCATE passes it by, so does
-- `session_replication_role = replica` (hence ENABLE ALWAYS), and a partition can be named directly (hence triggers on
-- every partition; row triggers are cloned by PostgreSQL, statement triggers are not). A backdated INSERT would rewrite
-- history as well, so the time must be the database's own.
--
-- Why no foreign key: the log outlives what it tells of.

CREATE TABLE audit_log (
    org_id     uuid NOT NULL,
    seq        bigint NOT NULL,
    -- From the default only: the application's roles may not give it. (Rows are routed to a partition before a BEFORE
    -- ROW trigger runs, so the trigger could not set it.)
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event      text NOT NULL CHECK (event ~ '^[a-z_]+(:[a-z_]+){1,2}$' AND char_length(event) <= 64),
    actor_kind text NOT NULL CHECK (actor_kind IN ('user', 'cli', 'gateway', 'system')),
    actor_id   text NOT NULL CHECK (char_length(actor_id) <= 200),
    subject    text NOT NULL CHECK (char_length(subject) <= 200),
    address    text CHECK (char_length(address) <= 64),
    user_agent text CHECK (char_length(user_agent) <= 512),
    request_id text CHECK (char_length(request_id) <= 128),
    details    jsonb NOT NULL DEFAULT '{}' CHECK (octet_length(details::text) <= 16384),
    prev_hash  bytea NOT NULL,
    hash       bytea NOT NULL,
    PRIMARY KEY (org_id, seq, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE audit_log_default PARTITION OF audit_log DEFAULT;

-- The end of each chain. Locked by whoever appends, so that numbers have no gaps; and what shows a cut-off tail.
CREATE TABLE audit_heads (
    org_id uuid PRIMARY KEY,
    seq    bigint NOT NULL,
    hash   bytea NOT NULL
);

-- Canonical form of one value: its length in bytes as 4 bytes, big-endian, then the bytes; NULL is length -1 alone.
CREATE FUNCTION audit_field(value bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog
AS $$ SELECT CASE WHEN value IS NULL THEN '\xffffffff'::bytea ELSE int4send(octet_length(value)) || value END $$;

CREATE FUNCTION audit_field(value text) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public
AS $$ SELECT public.audit_field(convert_to(value, 'UTF8')) $$;

-- Numbers, chains and hashes a new row. SECURITY DEFINER: the roles that append may not touch the heads.
CREATE FUNCTION audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    head public.audit_heads%ROWTYPE;
BEGIN
    -- Ten seconds: longer than a statement may wait between its default and this check.
    IF abs(extract(epoch FROM clock_timestamp() - NEW.created_at)) > 10 THEN
        RAISE EXCEPTION 'audit log is append-only'
            USING ERRCODE = 'KA001', HINT = 'Leave created_at out: it is the database''s own time.';
    END IF;
    INSERT INTO public.audit_heads (org_id, seq, hash)
    VALUES (NEW.org_id, 0, sha256(audit_field('karta audit log') || audit_field(NEW.org_id::text)))
    ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT head FROM public.audit_heads WHERE org_id = NEW.org_id FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.prev_hash := head.hash;
    NEW.hash := sha256(
        audit_field(NEW.prev_hash)
        || audit_field(NEW.org_id::text)
        || audit_field(NEW.seq::text)
        || audit_field((extract(epoch FROM NEW.created_at) * 1000000)::bigint::text)
        || audit_field(NEW.event)
        || audit_field(NEW.actor_kind)
        || audit_field(NEW.actor_id)
        || audit_field(NEW.subject)
        || audit_field(NEW.address)
        || audit_field(NEW.user_agent)
        || audit_field(NEW.request_id)
        || audit_field(NEW.details::text)
    );
    UPDATE public.audit_heads SET seq = NEW.seq, hash = NEW.hash WHERE org_id = NEW.org_id;
    RETURN NEW;
END
$$;

CREATE FUNCTION audit_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    RAISE EXCEPTION 'audit log is append-only'
        USING ERRCODE = 'KA001', HINT = 'Old months leave by dropping their partition, as the retention job does.';
END
$$;

CREATE TRIGGER audit_log_chain BEFORE INSERT ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_chain();
CREATE TRIGGER audit_log_refuse_row BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_log_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_chain;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_refuse_row;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_refuse_statement;

-- Gives a partition what it does not inherit: the statement trigger, and ALWAYS for the cloned row triggers.
CREATE FUNCTION guard_audit_partition(partition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER audit_log_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', partition);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_log_refuse_statement', partition);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_log_refuse_row', partition);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_log_chain', partition);
END
$$;
REVOKE EXECUTE ON FUNCTION guard_audit_partition(text) FROM PUBLIC;

SELECT guard_audit_partition('audit_log_default');

GRANT SELECT, INSERT (org_id, event, actor_kind, actor_id, subject, address, user_agent, request_id, details)
    ON audit_log TO karta_admin;
GRANT SELECT ON audit_heads TO karta_admin;
