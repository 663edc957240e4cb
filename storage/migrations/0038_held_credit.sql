-- As in 0037; and credit that a journal holds which never came back is passed over. As it was, such windows were looked at
-- each time and nothing was deleted of them, so that a thousand of them hid all others.
CREATE OR REPLACE FUNCTION prune_quota(rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    ids    bigint[];
    starts timestamptz[];
    pruned integer;
    more   integer;
BEGIN
    IF rows_max NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'rows_max is %, must be 1 to 10000', rows_max USING ERRCODE = 'check_violation';
    END IF;
    SELECT array_agg(old.limit_id), array_agg(old.window_start) INTO ids, starts
      FROM (SELECT w.limit_id, w.window_start
              FROM public.limits l
             CROSS JOIN LATERAL (
                   SELECT o.limit_id, o.window_start FROM public.quota_windows o
                    WHERE o.limit_id = l.limit_id AND o.window_start < now() - quota_kept(l.period)
                    ORDER BY o.window_start LIMIT rows_max FOR NO KEY UPDATE SKIP LOCKED) w
             WHERE l.period <> 'none'
             LIMIT rows_max) old;
    DELETE FROM public.quota_leases q USING unnest(ids, starts) AS a (limit_id, window_start)
     WHERE q.limit_id = a.limit_id AND q.window_start = a.window_start;
    DELETE FROM public.quota_windows w USING unnest(ids, starts) AS a (limit_id, window_start)
     WHERE w.limit_id = a.limit_id AND w.window_start = a.window_start;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    SELECT array_agg(w.limit_id) INTO ids
      FROM (SELECT w.limit_id
              FROM public.quota_windows w JOIN public.limits l USING (limit_id)
             WHERE l.kind = 'concurrent' AND w.window_start = to_timestamp(0) AND EXISTS (
                   SELECT FROM public.quota_leases q
                    WHERE q.limit_id = w.limit_id AND q.expires_at < now() - interval '1 day')
             LIMIT rows_max FOR NO KEY UPDATE OF w SKIP LOCKED) w;
    DELETE FROM public.quota_leases q
     WHERE q.limit_id = ANY (ids) AND q.expires_at < now() - interval '1 day';
    GET DIAGNOSTICS more = ROW_COUNT;
    pruned := pruned + more;
    SELECT array_agg(w.limit_id) INTO ids
      FROM (SELECT w.limit_id
              FROM public.quota_windows w JOIN public.limits l USING (limit_id)
             WHERE l.kind = 'credit' AND w.window_start = to_timestamp(0) AND EXISTS (
                   SELECT FROM public.quota_leases q
                    WHERE q.limit_id = w.limit_id AND q.expires_at < now() - interval '7 days' AND q.held <= 0)
             LIMIT rows_max FOR NO KEY UPDATE OF w SKIP LOCKED) w;
    WITH gone AS (
         DELETE FROM public.quota_leases q
          WHERE q.limit_id = ANY (ids) AND q.expires_at < now() - interval '7 days' AND q.held <= 0
         RETURNING q.limit_id, q.window_start, q.written_off)
    UPDATE public.quota_windows w SET written_off = w.written_off - g.written_off
      FROM (SELECT limit_id, window_start, sum(written_off)::bigint AS written_off FROM gone GROUP BY 1, 2) g
     WHERE (w.limit_id, w.window_start) = (g.limit_id, g.window_start);
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN pruned + more;
END
$$;
