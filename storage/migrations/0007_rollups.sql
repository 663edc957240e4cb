-- What usage adds up to: by hour, against limits, and per key; and what makes months come and go.
--
-- One call accounts for a batch, in the transaction that stores its rows, so that a row is counted exactly as often as
-- it is stored: once. The caller adds the batch up by minute first, so that the work here is per group and not per row.
--
-- Locks are taken in one order by everybody: the shared advisory lock, `usage_hourly` by its key, windows by theirs, the
-- audit chains by organization; and keys are skipped when somebody else has them.

CREATE TABLE usage_hourly (
    org_id                uuid NOT NULL,
    hour                  timestamptz NOT NULL,
    key_id                text NOT NULL,
    provider              text NOT NULL,
    -- As asked (what limits go by) and as answered (what is paid for; as asked when nothing was answered).
    model_asked           text NOT NULL,
    model                 text NOT NULL,
    requests              bigint NOT NULL,
    incomplete            bigint NOT NULL,
    unpriced              bigint NOT NULL,
    input_tokens          bigint NOT NULL,
    output_tokens         bigint NOT NULL,
    cache_read_tokens     bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    reasoning_tokens      bigint NOT NULL,
    input_audio_tokens    bigint NOT NULL,
    output_audio_tokens   bigint NOT NULL,
    server_tool_calls     bigint NOT NULL,
    cost_picodollars      bigint NOT NULL,
    charged_picodollars   bigint NOT NULL,
    PRIMARY KEY (org_id, hour, key_id, provider, model_asked, model)
) WITH (fillfactor = 70);
GRANT SELECT ON usage_hourly TO karta_admin;

-- A part of a batch added up: one key, provider and model, and one minute. The columns above, and the newest row's time.
CREATE TYPE usage_group AS (
    org_id uuid, minute timestamptz, key_id text, provider text, model_asked text, model text,
    requests bigint, incomplete bigint, unpriced bigint, input_tokens bigint, output_tokens bigint,
    cache_read_tokens bigint, cache_write_5m_tokens bigint, cache_write_1h_tokens bigint, reasoning_tokens bigint,
    input_audio_tokens bigint, output_audio_tokens bigint, server_tool_calls bigint, cost_picodollars bigint,
    charged_picodollars bigint, last_at timestamptz,
    -- Whether this was reserved from the owner's leases. Work that is learnt of late was not.
    reserved boolean
);

-- Money of odd rows must not end in an overflow that holds up all others: sums stop at the end of bigint. (Where many
-- rows pass by, the expression is written out, since a function with a search path of its own is never inlined.)
CREATE FUNCTION capped(amount numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$ SELECT least(greatest(amount, 0), 9223372036854775807)::bigint $$;

-- Shared by all who account for usage; exclusive for who must know that nobody does.
CREATE FUNCTION lock_accounting(exclusive boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF exclusive THEN
        PERFORM pg_advisory_xact_lock(4738126500002);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(4738126500002);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION lock_accounting(boolean) FROM PUBLIC;

CREATE FUNCTION add_hourly(groups usage_group[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, public, pg_temp
AS $$
    INSERT INTO public.usage_hourly AS h
           (org_id, hour, key_id, provider, model_asked, model, requests, incomplete, unpriced, input_tokens,
            output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens,
            input_audio_tokens, output_audio_tokens, server_tool_calls, cost_picodollars, charged_picodollars)
    SELECT g.org_id, date_trunc('hour', g.minute, 'UTC'), g.key_id, g.provider, g.model_asked, g.model,
           sum(g.requests), sum(g.incomplete), sum(g.unpriced), sum(g.input_tokens), sum(g.output_tokens),
           sum(g.cache_read_tokens), sum(g.cache_write_5m_tokens), sum(g.cache_write_1h_tokens),
           sum(g.reasoning_tokens), sum(g.input_audio_tokens), sum(g.output_audio_tokens),
           sum(g.server_tool_calls), least(sum(g.cost_picodollars), 9223372036854775807)::bigint,
           least(sum(g.charged_picodollars), 9223372036854775807)::bigint
      FROM unnest(groups) g
     GROUP BY 1, 2, 3, 4, 5, 6
     ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (org_id, hour, key_id, provider, model_asked, model) DO UPDATE
       SET requests = h.requests + EXCLUDED.requests,
           incomplete = h.incomplete + EXCLUDED.incomplete,
           unpriced = h.unpriced + EXCLUDED.unpriced,
           input_tokens = h.input_tokens + EXCLUDED.input_tokens,
           output_tokens = h.output_tokens + EXCLUDED.output_tokens,
           cache_read_tokens = h.cache_read_tokens + EXCLUDED.cache_read_tokens,
           cache_write_5m_tokens = h.cache_write_5m_tokens + EXCLUDED.cache_write_5m_tokens,
           cache_write_1h_tokens = h.cache_write_1h_tokens + EXCLUDED.cache_write_1h_tokens,
           reasoning_tokens = h.reasoning_tokens + EXCLUDED.reasoning_tokens,
           input_audio_tokens = h.input_audio_tokens + EXCLUDED.input_audio_tokens,
           output_audio_tokens = h.output_audio_tokens + EXCLUDED.output_audio_tokens,
           server_tool_calls = h.server_tool_calls + EXCLUDED.server_tool_calls,
           cost_picodollars = least(h.cost_picodollars::numeric + EXCLUDED.cost_picodollars, 9223372036854775807)::bigint,
           charged_picodollars =
               least(h.charged_picodollars::numeric + EXCLUDED.charged_picodollars, 9223372036854775807)::bigint
$$;
REVOKE EXECUTE ON FUNCTION add_hourly(usage_group[]) FROM PUBLIC;

-- Tells, once a period, that budgets have passed thresholds: an event, and an audit row beside it.
CREATE FUNCTION tell_budgets(ids bigint[], starts timestamptz[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH told AS (
         INSERT INTO public.budget_events (limit_id, window_start, threshold, settled, amount, org_id, key_id)
         SELECT l.limit_id, w.window_start, passed.threshold, w.settled, l.amount, l.org_id, l.key_id
           FROM unnest(ids, starts) AS a (limit_id, window_start)
           JOIN public.limits l USING (limit_id)
           JOIN public.quota_windows w USING (limit_id, window_start)
          CROSS JOIN unnest(l.thresholds) AS passed (threshold)
          WHERE l.kind = 'money' AND w.settled::numeric * 100 >= l.amount::numeric * passed.threshold
          ORDER BY 1, 2, 3
         ON CONFLICT DO NOTHING
         RETURNING limit_id, window_start, threshold, settled, amount, org_id, key_id)
    INSERT INTO public.audit_log (org_id, event, actor_kind, actor_id, subject, details)
    SELECT t.org_id, 'budget:threshold_reached', 'gateway', 'accounting', t.limit_id::text,
           jsonb_build_object('window_start', t.window_start, 'threshold', t.threshold,
                              'settled_picodollars', t.settled, 'amount_picodollars', t.amount, 'key_id', t.key_id)
      FROM told t
     ORDER BY t.org_id, t.limit_id, t.window_start, t.threshold
$$;
REVOKE EXECUTE ON FUNCTION tell_budgets(bigint[], timestamptz[]) FROM PUBLIC;

-- Moves what was used from `held` of the owner to `settled`, in every limit that it falls under. What the owner was
-- thought to have lost comes out of that first; and what was never reserved is only settled.
CREATE FUNCTION settle_usage(p_owner uuid, groups usage_group[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    ids     bigint[];
    starts  timestamptz[];
    amounts bigint[];
    reserved bigint[];
    minutes timestamptz := now() - quota_kept('minute');
    days    timestamptz := now() - quota_kept('day');
    months  timestamptz := now() - quota_kept('month');
BEGIN
    WITH applying AS MATERIALIZED (
         SELECT l.limit_id, l.org_id, l.key_id, l.model, l.kind, l.period,
                CASE l.period WHEN 'minute' THEN minutes WHEN 'day' THEN days ELSE months END AS since
           FROM public.limits l
          WHERE l.org_id IN (SELECT g.org_id FROM unnest(groups) g)
            AND l.removed_at IS NULL AND l.kind <> 'concurrent'),
    used AS (
         SELECT l.limit_id, date_trunc(l.period, g.minute, 'UTC') AS window_start,
                least(sum(CASE l.kind
                          WHEN 'requests' THEN g.requests
                          WHEN 'tokens' THEN g.input_tokens + g.output_tokens + g.cache_read_tokens
                                             + g.cache_write_5m_tokens + g.cache_write_1h_tokens
                          ELSE g.charged_picodollars END), 9223372036854775807)::bigint AS amount,
                least(coalesce(sum(CASE l.kind
                          WHEN 'requests' THEN g.requests
                          WHEN 'tokens' THEN g.input_tokens + g.output_tokens + g.cache_read_tokens
                                             + g.cache_write_5m_tokens + g.cache_write_1h_tokens
                          ELSE g.charged_picodollars END) FILTER (WHERE g.reserved), 0),
                      9223372036854775807)::bigint AS reserved
           FROM unnest(groups) g
           JOIN applying l USING (org_id)
          WHERE (l.key_id IS NULL OR l.key_id = g.key_id)
            AND (l.model IS NULL OR l.model = g.model_asked)
            AND g.minute > l.since
          GROUP BY 1, 2)
    SELECT array_agg(u.limit_id), array_agg(u.window_start), array_agg(u.amount), array_agg(u.reserved)
      INTO ids, starts, amounts, reserved
      FROM used u WHERE u.amount > 0;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM lock_quota_windows(ids, starts);
    WITH used AS (
         SELECT u.*, least(q.written_off, u.reserved) AS redeemed
           FROM unnest(ids, starts, amounts, reserved) AS u (limit_id, window_start, amount, reserved)
           LEFT JOIN public.quota_leases q
             ON q.limit_id = u.limit_id AND q.window_start = u.window_start AND q.owner = p_owner),
    leases AS (
         UPDATE public.quota_leases q
            SET written_off = q.written_off - u.redeemed, held = q.held - (u.reserved - u.redeemed)
           FROM used u
          WHERE q.limit_id = u.limit_id AND q.window_start = u.window_start AND q.owner = p_owner)
    UPDATE public.quota_windows w
       SET settled = least(w.settled::numeric + u.amount, 9223372036854775807)::bigint,
           written_off = w.written_off - coalesce(u.redeemed, 0)
      FROM used u
     WHERE w.limit_id = u.limit_id AND w.window_start = u.window_start;
    PERFORM tell_budgets(ids, starts);
END
$$;
REVOKE EXECUTE ON FUNCTION settle_usage(uuid, usage_group[]) FROM PUBLIC;

-- Accounts for new rows of one owner's journal. SECURITY DEFINER: the data plane adds, and reads none of it.
CREATE FUNCTION account_usage(p_owner uuid, groups usage_group[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM lock_accounting(false);
    PERFORM add_hourly(groups);
    PERFORM settle_usage(p_owner, groups);
    -- A minute's accuracy is enough, and what somebody else has locked is left for the next batch.
    WITH used AS (SELECT g.key_id, max(g.last_at) AS at FROM unnest(groups) g GROUP BY g.key_id),
    due AS (
         SELECT k.key_id, used.at
           FROM public.api_keys k JOIN used USING (key_id)
          WHERE k.last_used_at IS NULL OR k.last_used_at < used.at - interval '1 minute'
            FOR NO KEY UPDATE OF k SKIP LOCKED)
    UPDATE public.api_keys k SET last_used_at = due.at FROM due WHERE k.key_id = due.key_id;
END
$$;
REVOKE EXECUTE ON FUNCTION account_usage(uuid, usage_group[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION account_usage(uuid, usage_group[]) TO karta_gateway;

-- Counts a new limit's current window from its beginning: a budget of a month that is set in the middle of it knows what
-- was spent. Nobody accounts for usage meanwhile, so nothing is counted twice or not at all.
CREATE FUNCTION open_limit(p_limit bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM lock_accounting(true);
    INSERT INTO public.quota_windows (limit_id, window_start, settled)
    SELECT l.limit_id, quota_window(l.period, now()),
           capped(coalesce(sum(CASE l.kind
                               WHEN 'requests' THEN h.requests
                               WHEN 'tokens' THEN h.input_tokens + h.output_tokens + h.cache_read_tokens
                                                  + h.cache_write_5m_tokens + h.cache_write_1h_tokens
                               ELSE h.charged_picodollars END), 0))
      FROM public.limits l
      LEFT JOIN public.usage_hourly h
        ON h.org_id = l.org_id AND h.hour >= quota_window(l.period, now())
       AND h.hour < quota_window(l.period, now()) + ('1 ' || l.period)::interval
       AND (l.key_id IS NULL OR l.key_id = h.key_id) AND (l.model IS NULL OR l.model = h.model_asked)
     WHERE l.limit_id = p_limit AND l.period IN ('day', 'month')
     GROUP BY l.limit_id
    ON CONFLICT DO NOTHING;
END
$$;
REVOKE EXECUTE ON FUNCTION open_limit(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_limit(bigint) TO karta_admin;

-- Gives a key's successor the key's own limits and what was used of them, so that rotating is no way round a limit.
CREATE FUNCTION inherit_limits(old_key text, new_key text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH inherited AS (
         INSERT INTO public.limits (org_id, key_id, model, kind, period, amount, hard, thresholds)
         SELECT l.org_id, new_key, l.model, l.kind, l.period, l.amount, l.hard, l.thresholds
           FROM public.limits l WHERE l.key_id = old_key AND l.removed_at IS NULL
         RETURNING limit_id, model, kind, period)
    INSERT INTO public.quota_windows (limit_id, window_start, settled)
    SELECT i.limit_id, w.window_start, w.settled
      FROM inherited i
      JOIN public.limits l ON l.key_id = old_key AND l.removed_at IS NULL AND l.model IS NOT DISTINCT FROM i.model
                          AND (l.kind, l.period) = (i.kind, i.period)
      JOIN public.quota_windows w ON w.limit_id = l.limit_id AND w.window_start = quota_window(l.period, now())
$$;
REVOKE EXECUTE ON FUNCTION inherit_limits(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION inherit_limits(text, text) TO karta_admin;
