-- Metered requests, by month; and the function that makes months ahead of time.

-- Money is an integer of picodollars (1e-12 USD). On disk the widest fixed columns come first, which saves the padding
-- between them: about a tenth of a row.
CREATE TABLE usage (
    started_at            timestamptz NOT NULL,
    cost_picodollars      bigint, -- NULL: the price is unknown, which is not the same as free
    charged_picodollars   bigint NOT NULL,
    request_bytes         bigint NOT NULL,
    response_bytes        bigint NOT NULL,
    total_us              bigint NOT NULL,
    status                integer NOT NULL,
    input_tokens          integer NOT NULL,
    output_tokens         integer NOT NULL,
    cache_read_tokens     integer NOT NULL,
    cache_write_5m_tokens integer NOT NULL,
    cache_write_1h_tokens integer NOT NULL,
    reasoning_tokens      integer NOT NULL,
    input_audio_tokens    integer NOT NULL,
    output_audio_tokens   integer NOT NULL,
    server_tool_calls     integer NOT NULL,
    queue_us              integer NOT NULL,
    verify_us             integer NOT NULL,
    dial_us               integer NOT NULL,
    first_byte_us         integer NOT NULL,
    request_id            uuid NOT NULL,
    org_id                uuid NOT NULL,
    credential_id         uuid,
    streamed              boolean NOT NULL,
    usage_complete        boolean NOT NULL,
    key_id                text NOT NULL,
    credential_kind       text NOT NULL,
    provider              text NOT NULL,
    endpoint              text NOT NULL,
    model_asked           text,
    model_answered        text,
    service_tier          text,
    outcome               text NOT NULL,
    price_version         text,
    provider_request_id   text,
    -- No other constraint, and no foreign key: a record that was spooled must always find a place.
    PRIMARY KEY (started_at, request_id)
) PARTITION BY RANGE (started_at);
CREATE INDEX usage_org ON usage (org_id, started_at);
CREATE TABLE usage_default PARTITION OF usage DEFAULT;

-- The two columns that tell which rows of a batch were new; what they used stays unreadable to the data plane.
GRANT INSERT, SELECT (started_at, request_id) ON usage TO karta_gateway;
GRANT SELECT ON usage TO karta_admin;
-- Batches travel by COPY into a temporary table first, which is what makes them idempotent.
DO $$
BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO karta_gateway', current_database());
END
$$;

-- Makes the partitions of this month and of `months_ahead` more; returns how many were new. A month that already has
-- rows in the default partition stays there.
CREATE FUNCTION make_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    parent text;
    month  timestamp;
    name   text;
    made   integer := 0;
BEGIN
    IF months_ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months_ahead is %, must be 0 to 24', months_ahead USING ERRCODE = 'check_violation';
    END IF;
    -- One maker at a time; the number is arbitrary and only this function's.
    PERFORM pg_advisory_xact_lock(4738126500001);
    FOREACH parent IN ARRAY ARRAY['audit_log', 'usage'] LOOP
        FOR ahead IN 0..months_ahead LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead);
            name := parent || to_char(month, '_YYYY_MM');
            CONTINUE WHEN to_regclass('public.' || quote_ident(name)) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                    name, parent, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            EXCEPTION WHEN check_violation THEN
                CONTINUE;
            END;
            IF parent = 'audit_log' THEN
                PERFORM public.guard_audit_partition(name);
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE EXECUTE ON FUNCTION make_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partitions(integer) TO karta_admin;
