-- What rotating keys left behind: thresholds that were told anew, and limits of ended keys that were read for everybody.
-- And old material of provider keys goes, though two want it gone at once.

-- As in 0007; and a successor's limits have told what the key's own had told in their period: each rotation told it all
-- anew, with the successor's next request.
CREATE OR REPLACE FUNCTION inherit_limits(old_key text, new_key text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH inherited AS (
         INSERT INTO public.limits (org_id, key_id, model, kind, period, amount, hard, thresholds)
         SELECT l.org_id, new_key, l.model, l.kind, l.period, l.amount, l.hard, l.thresholds
           FROM public.limits l WHERE l.key_id = old_key AND l.removed_at IS NULL
         RETURNING limit_id, model, kind, period),
    present AS (
         SELECT i.limit_id, l.limit_id AS old_limit, quota_window(l.period, now()) AS window_start
           FROM inherited i
           JOIN public.limits l ON l.key_id = old_key AND l.removed_at IS NULL AND l.model IS NOT DISTINCT FROM i.model
                               AND (l.kind, l.period) = (i.kind, i.period)),
    told AS (
         INSERT INTO public.budget_events
                (limit_id, window_start, threshold, settled, amount, org_id, key_id, created_at)
         SELECT p.limit_id, e.window_start, e.threshold, e.settled, e.amount, e.org_id, new_key, e.created_at
           FROM present p
           JOIN public.budget_events e ON e.limit_id = p.old_limit AND e.window_start = p.window_start)
    INSERT INTO public.quota_windows (limit_id, window_start, settled)
    SELECT p.limit_id, w.window_start, w.settled
      FROM present p
      JOIN public.quota_windows w ON w.limit_id = p.old_limit AND w.window_start = p.window_start
$$;

-- As in 0028, but nothing is written of what a successor has from its key: that kept its time, and what is told now has
-- the time of this transaction.
CREATE OR REPLACE FUNCTION write_budget_letters() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    told record;
BEGIN
    FOR told IN
        SELECT DISTINCT ON (n.limit_id, n.window_start)
               n.org_id, n.window_start, n.threshold, n.settled, n.amount, n.key_id, k.name AS key_name, l.period
          FROM new_events n
          LEFT JOIN public.api_keys k ON k.key_id = n.key_id
          LEFT JOIN public.limits l ON l.limit_id = n.limit_id
         WHERE n.created_at = now()
         ORDER BY n.limit_id, n.window_start, n.threshold DESC
    LOOP
        PERFORM write_members(told.org_id, 'budget_reached', ARRAY['owner', 'admin', 'billing'], 'budgets',
            jsonb_build_object('threshold', told.threshold, 'settled', told.settled::text, 'amount', told.amount::text,
                               'since', told.window_start, 'period', coalesce(told.period, ''),
                               'key_id', coalesce(told.key_id, ''), 'key_name', coalesce(told.key_name, '')));
    END LOOP;
    RETURN NULL;
END
$$;

-- As in 0032, but of the limits of single keys only those are read whose keys are in the batch. A key that has ended
-- keeps its limits, so each rotation leaves some, and who rotated often made every batch slow that had a request of
-- theirs, for all whose requests came with it.
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
    WITH asked AS MATERIALIZED (
         SELECT DISTINCT g.org_id, g.key_id FROM unnest(groups) g),
    of_keys AS MATERIALIZED (
         SELECT l.limit_id, l.org_id, l.key_id, l.model, l.kind, l.period,
                CASE l.period WHEN 'minute' THEN minutes WHEN 'day' THEN days ELSE months END AS since
           FROM asked a
           JOIN public.limits l ON l.org_id = a.org_id AND l.key_id = a.key_id
          WHERE l.removed_at IS NULL AND l.kind <> 'concurrent'),
    of_orgs AS MATERIALIZED (
         SELECT l.limit_id, l.org_id, l.model, l.kind, l.period,
                CASE l.period WHEN 'minute' THEN minutes WHEN 'day' THEN days ELSE months END AS since
           FROM public.limits l
          WHERE l.org_id IN (SELECT a.org_id FROM asked a) AND l.key_id IS NULL
            AND l.removed_at IS NULL AND l.kind <> 'concurrent'),
    falling AS (
         SELECT l.limit_id, l.kind, l.period, g.minute, g.requests,
                g.input_tokens + g.output_tokens + g.cache_read_tokens + g.cache_write_5m_tokens
                + g.cache_write_1h_tokens AS tokens, g.charged_picodollars,
                g.reserved AND (l.model IS NULL OR l.model = g.model_asked) AS reserved
           FROM unnest(groups) g
           JOIN of_keys l ON l.org_id = g.org_id AND l.key_id = g.key_id
          WHERE l.kind <> 'credit' AND g.minute > l.since
            AND (l.model IS NULL OR l.model = g.model_asked
                 OR g.model_asked = '' AND goes_by(g.model, l.model))
         UNION ALL
         SELECT l.limit_id, l.kind, l.period, g.minute, g.requests,
                g.input_tokens + g.output_tokens + g.cache_read_tokens + g.cache_write_5m_tokens
                + g.cache_write_1h_tokens, g.charged_picodollars,
                g.reserved AND (l.model IS NULL OR l.model = g.model_asked)
           FROM unnest(groups) g
           JOIN of_orgs l ON l.org_id = g.org_id
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
           JOIN of_orgs l USING (org_id)
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

-- As in 0003, but one at a time: two who had both looked whether anything is due waited for each other, and neither had
-- the table to itself.
CREATE OR REPLACE FUNCTION shred_credentials() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
    -- The number is arbitrary, and only this function's.
    PERFORM pg_advisory_xact_lock(4738126500041);
    IF NOT EXISTS (SELECT FROM public.provider_credentials WHERE shred_due) THEN
        RETURN false;
    END IF;
    LOCK TABLE public.provider_credentials IN ACCESS EXCLUSIVE MODE;
    UPDATE public.provider_credentials SET shred_due = false WHERE shred_due;
    -- An expression that is not the bare column forces the rewrite; only rows that live now are carried over.
    ALTER TABLE public.provider_credentials
        ALTER COLUMN file_generation SET DATA TYPE integer USING file_generation + 1;
    RETURN true;
END
$$;
