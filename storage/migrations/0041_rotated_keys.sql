-- What rotating keys left behind: thresholds that were told anew.

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
