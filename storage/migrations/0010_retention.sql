-- How old usage leaves, and how sums are made anew. For the owner only: no program drops anything.

-- Drops the months of `usage` that ended before `kept_since`, whole; and what is older than that in the default
-- partition, `rows_max` rows at most. Returns the names of what was dropped.
CREATE FUNCTION drop_usage(kept_since timestamptz, rows_max integer) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    month   record;
    dropped text[] := '{}';
BEGIN
    FOR month IN
        SELECT c.relname::text AS name, to_timestamp(right(c.relname, 7), 'YYYY_MM')::timestamp AS begins
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.usage'::regclass AND c.relname ~ '^usage_\d{4}_\d{2}$'
         ORDER BY c.relname
    LOOP
        CONTINUE WHEN (month.begins + interval '1 month') AT TIME ZONE 'UTC' > kept_since;
        EXECUTE format('DROP TABLE public.%I', month.name);
        dropped := dropped || month.name;
    END LOOP;
    DELETE FROM public.usage_default
     WHERE (started_at, request_id) IN (
           SELECT started_at, request_id FROM public.usage_default WHERE started_at < kept_since LIMIT rows_max);
    IF FOUND THEN
        dropped := dropped || 'rows of usage_default'::text;
    END IF;
    RETURN dropped;
END
$$;
REVOKE EXECUTE ON FUNCTION drop_usage(timestamptz, integer) FROM PUBLIC;

-- Makes the hourly sums of one organization anew, for the whole hours of [since, until). Nobody accounts for usage
-- meanwhile, so choose spans within a day. Where no requests are kept any more the sums stay as they are. Returns how
-- many there are now.
CREATE FUNCTION rebuild_hourly(p_org uuid, since timestamptz, until timestamptz) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    made integer;
BEGIN
    PERFORM lock_accounting(true);
    DELETE FROM public.usage_hourly
     WHERE org_id = p_org AND hour >= date_trunc('hour', since, 'UTC') AND hour < date_trunc('hour', until, 'UTC')
       AND EXISTS (SELECT FROM public.usage u
                    WHERE u.org_id = p_org AND u.started_at >= date_trunc('hour', since, 'UTC')
                      AND u.started_at < date_trunc('hour', until, 'UTC'));
    PERFORM add_hourly(array_agg(ROW(
            g.org_id, g.hour, g.key_id, g.provider, g.model_asked, g.model, g.requests, g.incomplete, g.unpriced,
            g.input_tokens, g.output_tokens, g.cache_read_tokens, g.cache_write_5m_tokens, g.cache_write_1h_tokens,
            g.reasoning_tokens, g.input_audio_tokens, g.output_audio_tokens, g.server_tool_calls,
            g.cost_picodollars, g.charged_picodollars, g.last_at, true)::public.usage_group))
      FROM (SELECT u.org_id, date_trunc('hour', u.started_at, 'UTC') AS hour, u.key_id, u.provider,
                   coalesce(u.model_asked, '') AS model_asked,
                   coalesce(u.model_answered, u.model_asked, '') AS model,
                   count(*) AS requests,
                   count(*) FILTER (WHERE NOT u.usage_complete) AS incomplete,
                   count(*) FILTER (WHERE u.cost_picodollars IS NULL) AS unpriced,
                   sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
                   sum(u.cache_read_tokens) AS cache_read_tokens,
                   sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens,
                   sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens,
                   sum(u.reasoning_tokens) AS reasoning_tokens,
                   sum(u.input_audio_tokens) AS input_audio_tokens,
                   sum(u.output_audio_tokens) AS output_audio_tokens,
                   sum(u.server_tool_calls) AS server_tool_calls,
                   capped(coalesce(sum(u.cost_picodollars), 0)) AS cost_picodollars,
                   capped(sum(u.charged_picodollars)) AS charged_picodollars,
                   max(u.started_at) AS last_at
              FROM public.usage u
             WHERE u.org_id = p_org AND u.started_at >= date_trunc('hour', since, 'UTC')
               AND u.started_at < date_trunc('hour', until, 'UTC')
             GROUP BY 1, 2, 3, 4, 5, 6) g
    HAVING count(*) > 0;
    SELECT count(*) INTO made FROM public.usage_hourly
     WHERE org_id = p_org AND hour >= date_trunc('hour', since, 'UTC') AND hour < date_trunc('hour', until, 'UTC');
    RETURN made;
END
$$;
REVOKE EXECUTE ON FUNCTION rebuild_hourly(uuid, timestamptz, timestamptz) FROM PUBLIC;
