-- As in 0025, but the limits of a key are found by the key: each part of a batch was held against all limits of its
-- organization, which with twenty keys that have three each was a fifth of what storing a row costs.
CREATE OR REPLACE FUNCTION settle_usage(p_owner uuid, groups usage_group[], billable billable_group[]) RETURNS void
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
    falling AS (
         SELECT l.limit_id, l.kind, l.period, g.minute, g.requests,
                g.input_tokens + g.output_tokens + g.cache_read_tokens + g.cache_write_5m_tokens
                + g.cache_write_1h_tokens AS tokens, g.charged_picodollars, g.reserved
           FROM unnest(groups) g
           JOIN applying l ON l.org_id = g.org_id AND l.key_id = g.key_id
          WHERE l.kind <> 'credit' AND (l.model IS NULL OR l.model = g.model_asked) AND g.minute > l.since
         UNION ALL
         SELECT l.limit_id, l.kind, l.period, g.minute, g.requests,
                g.input_tokens + g.output_tokens + g.cache_read_tokens + g.cache_write_5m_tokens
                + g.cache_write_1h_tokens, g.charged_picodollars, g.reserved
           FROM unnest(groups) g
           JOIN applying l ON l.org_id = g.org_id AND l.key_id IS NULL
          WHERE l.kind <> 'credit' AND (l.model IS NULL OR l.model = g.model_asked) AND g.minute > l.since),
    used AS (
         SELECT f.limit_id, date_trunc(f.period, f.minute, 'UTC') AS window_start,
                least(sum(CASE f.kind WHEN 'requests' THEN f.requests WHEN 'tokens' THEN f.tokens
                                      ELSE f.charged_picodollars END), 9223372036854775807)::bigint AS amount,
                least(coalesce(sum(CASE f.kind WHEN 'requests' THEN f.requests WHEN 'tokens' THEN f.tokens
                                               ELSE f.charged_picodollars END) FILTER (WHERE f.reserved), 0),
                      9223372036854775807)::bigint AS reserved
           FROM falling f
          GROUP BY 1, 2
         UNION ALL
         SELECT l.limit_id, to_timestamp(0), least(sum(b.picodollars), 9223372036854775807)::bigint,
                least(sum(b.reserved), 9223372036854775807)::bigint
           FROM unnest(billable) b
           JOIN applying l USING (org_id)
          WHERE l.kind = 'credit'
          GROUP BY 1)
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
