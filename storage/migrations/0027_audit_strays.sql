-- Rows of the audit log that lie in the default partition, because their month's could not be made in time, get the
-- month they should have had: else no later month could ever be made where they lie, and none would ever leave.

-- Returns the months' partitions that were made; for the owner only. No trigger is ever off, and no row is changed or
-- deleted: rows are copied as they are into tables that are not part of the log yet, and then those take the place of the
-- default partition, which is dropped whole. Writers wait only while what came in during the first copying is copied.
CREATE FUNCTION move_audit_strays() RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    month  timestamp;
    name   text;
    names  text[] := '{}';
    begins timestamptz[] := '{}';
    kept   bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM public.audit_log_default) THEN
        RETURN names;
    END IF;
    -- The lock of those who make partitions (0004).
    PERFORM pg_advisory_xact_lock(4738126500001);
    FOR pass IN 1..2 LOOP
        IF pass = 2 THEN
            LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE;
        END IF;
        FOR month IN
            SELECT DISTINCT date_trunc('month', d.created_at AT TIME ZONE 'UTC')
              FROM public.audit_log_default d ORDER BY 1
        LOOP
            name := 'audit_log' || to_char(month, '_YYYY_MM');
            IF name <> ALL (names) THEN
                EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_log INCLUDING ALL)', name);
                names := names || name;
                begins := begins || month AT TIME ZONE 'UTC';
            END IF;
            EXECUTE format(
                'INSERT INTO public.%1$I SELECT d.* FROM public.audit_log_default d'
                ' WHERE d.created_at >= $1 AND d.created_at < $2'
                '   AND NOT EXISTS (SELECT FROM public.%1$I m'
                '                    WHERE (m.org_id, m.seq, m.created_at) = (d.org_id, d.seq, d.created_at))', name)
            USING month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC';
        END LOOP;
    END LOOP;
    SELECT count(*) INTO kept FROM public.audit_log_default;
    ALTER TABLE public.audit_log DETACH PARTITION public.audit_log_default;
    FOR at IN 1..cardinality(names) LOOP
        EXECUTE format('SELECT $1 - count(*) FROM public.%I', names[at]) INTO kept USING kept;
        EXECUTE format(
            'ALTER TABLE public.audit_log ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            names[at], begins[at],
            (begins[at] AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
        PERFORM public.guard_audit_partition(names[at]);
    END LOOP;
    IF kept <> 0 THEN
        RAISE EXCEPTION 'audit log is append-only'
            USING ERRCODE = 'KA001', HINT = 'Not every row of the default partition was copied.';
    END IF;
    DROP TABLE public.audit_log_default;
    CREATE TABLE public.audit_log_default PARTITION OF public.audit_log DEFAULT;
    PERFORM public.guard_audit_partition('audit_log_default');
    RETURN names;
END
$$;
REVOKE EXECUTE ON FUNCTION move_audit_strays() FROM PUBLIC;
