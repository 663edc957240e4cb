-- Limits of one model count work whose request named none: what is learnt of late, and answers to stored prompts. There
-- only the answer tells the model, by its dated name as a rule, and a limit may name it otherwise.

-- Whether a model that answers by one name may be asked for by another: the same, without the date, or with `-latest`
-- or `-0` in its place. `gpt-4o-2024-08-06` goes by `gpt-4o`, and not by `gpt-4o-2024-05-13`.
CREATE FUNCTION goes_by(answered text, asked text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
    SELECT asked = answered
        OR regexp_replace(asked, '-(latest|0)$', '')
           = regexp_replace(answered, '(-\d{4}-\d\d-\d\d|[-@]\d{8}|-\d{4}|-latest|-0)$', '')
$$;
REVOKE EXECUTE ON FUNCTION goes_by(text, text) FROM PUBLIC;

-- As in 0030, and by what the model goes by. Of a limit whose model the request did not name nothing was reserved.
-- (The function is asked only where no model was named: not for each part of each batch and each limit.) And who has no
-- lease has nothing that was written off: as `least` passes over NULL, what was used under a soft limit, or before a
-- limit was set, was counted as found again, and could be lent a second time.
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
                + g.cache_write_1h_tokens AS tokens, g.charged_picodollars,
                g.reserved AND (l.model IS NULL OR l.model = g.model_asked) AS reserved
           FROM unnest(groups) g
           JOIN applying l ON l.org_id = g.org_id AND l.key_id = g.key_id
          WHERE l.kind <> 'credit' AND g.minute > l.since
            AND (l.model IS NULL OR l.model = g.model_asked
                 OR g.model_asked = '' AND goes_by(g.model, l.model))
         UNION ALL
         SELECT l.limit_id, l.kind, l.period, g.minute, g.requests,
                g.input_tokens + g.output_tokens + g.cache_read_tokens + g.cache_write_5m_tokens
                + g.cache_write_1h_tokens, g.charged_picodollars,
                g.reserved AND (l.model IS NULL OR l.model = g.model_asked)
           FROM unnest(groups) g
           JOIN applying l ON l.org_id = g.org_id AND l.key_id IS NULL
          WHERE l.kind <> 'credit' AND g.minute > l.since
            AND (l.model IS NULL OR l.model = g.model_asked
                 OR g.model_asked = '' AND goes_by(g.model, l.model))),
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
         SELECT u.*, least(coalesce(q.written_off, 0), u.reserved) AS redeemed
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

-- As in 0007, and by what the model goes by.
CREATE OR REPLACE FUNCTION open_limit(p_limit bigint) RETURNS void
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
       AND (l.key_id IS NULL OR l.key_id = h.key_id)
       AND (l.model IS NULL OR l.model = h.model_asked
            OR h.model_asked = '' AND goes_by(h.model, l.model))
     WHERE l.limit_id = p_limit AND l.period IN ('day', 'month')
     GROUP BY l.limit_id
    ON CONFLICT DO NOTHING;
END
$$;

-- What is written off of a window is what is written off of its leases. Whoever changes them has added to this table
-- first, and so has come to an end when the lock is given.
LOCK TABLE quota_windows IN SHARE ROW EXCLUSIVE MODE;
UPDATE quota_windows w SET written_off = told.written_off
  FROM (SELECT v.limit_id, v.window_start, coalesce(sum(q.written_off), 0)::bigint AS written_off
          FROM quota_windows v
          JOIN limits l ON l.limit_id = v.limit_id AND l.kind <> 'concurrent'
          LEFT JOIN quota_leases q ON q.limit_id = v.limit_id AND q.window_start = v.window_start
         GROUP BY 1, 2) told
 WHERE w.limit_id = told.limit_id AND w.window_start = told.window_start AND w.written_off <> told.written_off;
