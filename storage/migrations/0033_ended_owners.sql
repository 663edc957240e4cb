-- A worker that is killed may have a call under way, which the server goes on with. When its journal is settled at
-- once, that call could come after the end of its leases, and be granted new ones that nobody gives back. So who ends
-- an owner's leases waits for what is under way, and what comes later is told that it is late.

-- Owners whose leases were ended, and the turn that calls must be above since.
CREATE TABLE quota_owners (
    owner    uuid PRIMARY KEY,
    turn     bigint NOT NULL,
    ended_at timestamptz NOT NULL
);

-- Taken before any window is locked. Shared by an owner's calls, alone for who ends its leases.
CREATE FUNCTION lock_owner(p_owner uuid, alone boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(p_owner::text, 4738126500003));
    ELSE
        PERFORM pg_advisory_xact_lock_shared(hashtextextended(p_owner::text, 4738126500003));
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION lock_owner(uuid, boolean) FROM PUBLIC;

-- As in 0006; and calls of an owner from before its end change nothing.
CREATE OR REPLACE FUNCTION settle_leases(
    p_owner uuid, p_turn bigint, p_lease_seconds integer, p_limits bigint[], p_starts bigint[], p_opened bigint[],
    p_acquired bigint[], p_unspent bigint[], p_wanted bigint[], p_minimum bigint[])
RETURNS TABLE (limit_id bigint, window_start bigint, state text, granted bigint, available bigint, last_turn bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ids    bigint[];
    starts timestamptz[];
    ended  bigint;
BEGIN
    IF p_lease_seconds NOT BETWEEN 1 AND 3600 OR cardinality(p_limits) > 10000 THEN
        RAISE EXCEPTION 'ask for 10000 leases at most, of 1 to 3600 seconds' USING ERRCODE = 'check_violation';
    END IF;
    PERFORM lock_owner(p_owner, false);
    SELECT o.turn INTO ended FROM public.quota_owners o WHERE o.owner = p_owner;
    IF ended >= p_turn THEN
        RETURN QUERY
        SELECT a.limit_id, a.start, 'late', 0::bigint, 0::bigint, ended
          FROM unnest(p_limits, p_starts) AS a (limit_id, start);
        RETURN;
    END IF;
    SELECT array_agg(asked.limit_id), array_agg(asked.window_start) INTO ids, starts
      FROM (SELECT a.limit_id, to_timestamp(a.start) AS window_start
              FROM unnest(p_limits, p_starts) AS a (limit_id, start)) asked
      JOIN public.limits l ON l.limit_id = asked.limit_id AND l.removed_at IS NULL AND l.hard
     WHERE asked.window_start = quota_window(l.period, asked.window_start)
       AND (l.period = 'none'
            -- A minute for the owner's clock to be fast; and a period for rows that are settled late.
            OR asked.window_start <= clock_timestamp() + interval '1 minute'
               AND asked.window_start + 2 * ('1 ' || l.period)::interval >= clock_timestamp());
    PERFORM lock_quota_windows(ids, starts);

    PERFORM expire_leases(p_owner, ids, starts);

    RETURN QUERY
    WITH asked AS (
         SELECT a.*, to_timestamp(a.start) AS begins
           FROM unnest(p_limits, p_starts, p_opened, p_acquired, p_unspent, p_wanted, p_minimum)
                AS a (limit_id, start, opened, acquired, unspent, wanted, minimum)),
    mine AS (
         SELECT a.limit_id, a.begins, a.opened, a.acquired, a.wanted, greatest(a.minimum, 0) AS minimum,
                coalesce(q.written_off, 0) AS revived,
                CASE WHEN q.owner IS NULL THEN greatest(a.unspent, 0)
                     WHEN q.opened = a.opened THEN q.held + q.written_off + a.acquired - q.acquired
                     ELSE greatest(q.held + q.written_off, 0) + a.acquired END AS held,
                -- Numeric: an odd row may have brought any of these near the end of bigint.
                l.amount::numeric - w.settled - w.written_off - others.held
                + CASE WHEN l.kind = 'concurrent' THEN 0 ELSE coalesce(q.written_off, 0) END AS not_others,
                others.live
           FROM asked a
           JOIN unnest(ids, starts) AS valid (limit_id, begins) USING (limit_id, begins)
           JOIN public.limits l USING (limit_id)
           JOIN public.quota_windows w ON w.limit_id = a.limit_id AND w.window_start = a.begins
           LEFT JOIN public.quota_leases q
             ON q.limit_id = a.limit_id AND q.window_start = a.begins AND q.owner = p_owner
          CROSS JOIN LATERAL (
                SELECT coalesce(sum(o.held) FILTER (WHERE o.held > 0), 0) AS held,
                       count(*) FILTER (WHERE o.held > 0 AND o.expires_at >= clock_timestamp()) AS live
                  FROM public.quota_leases o
                 WHERE o.limit_id = a.limit_id AND o.window_start = a.begins AND o.owner <> p_owner) others
          WHERE q.turn IS NULL OR q.turn < p_turn),
    seen AS (
         SELECT m.*, greatest(m.not_others - greatest(m.held, 0), 0) AS free, greatest(-m.held, 0) AS debt
           FROM mine m),
    decided AS MATERIALIZED (
         SELECT s.*, s.free + s.debt AS to_be_had,
                CASE WHEN s.wanted <= 0 OR s.free + s.debt < s.minimum THEN 0
                     -- Half of an even share, so that nobody strands what others need; but what is needed at once is
                     -- granted if it is there at all.
                     ELSE least(s.wanted, s.free + s.debt,
                                greatest(s.minimum, floor(s.free / (2 * (s.live + 1))) + s.debt))
                END::bigint AS granted
           FROM seen s),
    leased AS (
         INSERT INTO public.quota_leases AS q
                (limit_id, window_start, owner, held, acquired, opened, turn, expires_at)
         SELECT d.limit_id, d.begins, p_owner, d.held + d.granted, d.acquired + d.granted, d.opened, p_turn,
                clock_timestamp() + make_interval(secs => p_lease_seconds)
           FROM decided d
         ON CONFLICT (limit_id, window_start, owner) DO UPDATE
            SET held = EXCLUDED.held, written_off = 0, acquired = EXCLUDED.acquired, opened = EXCLUDED.opened,
                turn = EXCLUDED.turn, expires_at = EXCLUDED.expires_at),
    revived AS (
         UPDATE public.quota_windows w SET written_off = w.written_off - d.revived
           FROM decided d JOIN public.limits l USING (limit_id)
          WHERE w.limit_id = d.limit_id AND w.window_start = d.begins AND d.revived <> 0 AND l.kind <> 'concurrent')
    SELECT a.limit_id, a.start,
           CASE WHEN d.limit_id IS NOT NULL THEN 'open'
                WHEN q.turn >= p_turn THEN 'late'
                WHEN l.limit_id IS NOT NULL THEN 'closed'
                ELSE 'gone' END,
           coalesce(d.granted, 0), coalesce((d.to_be_had - d.granted)::bigint, 0), coalesce(q.turn, 0)
      FROM asked a
      LEFT JOIN decided d ON d.limit_id = a.limit_id AND d.begins = a.begins
      LEFT JOIN public.limits l ON l.limit_id = a.limit_id AND l.removed_at IS NULL AND l.hard
      LEFT JOIN public.quota_leases q ON q.limit_id = a.limit_id AND q.window_start = a.begins AND q.owner = p_owner;
END
$$;

-- Gives back all that an owner holds, and hears of no call with a turn up to `p_turn` any more. Right only when its
-- whole journal has been accounted for.
CREATE FUNCTION release_owner(p_owner uuid, p_turn bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    ids      bigint[];
    starts   timestamptz[];
    released integer;
BEGIN
    PERFORM lock_owner(p_owner, true);
    INSERT INTO public.quota_owners AS o (owner, turn, ended_at) VALUES (p_owner, p_turn, now())
    ON CONFLICT (owner) DO UPDATE SET turn = greatest(o.turn, EXCLUDED.turn), ended_at = now();
    SELECT array_agg(q.limit_id), array_agg(q.window_start) INTO ids, starts
      FROM public.quota_leases q WHERE q.owner = p_owner;
    PERFORM lock_quota_windows(ids, starts);
    WITH gone AS (
         DELETE FROM public.quota_leases q USING unnest(ids, starts) AS a (limit_id, window_start)
          WHERE q.limit_id = a.limit_id AND q.window_start = a.window_start AND q.owner = p_owner
         RETURNING q.limit_id, q.window_start, q.written_off),
    returned AS (
         UPDATE public.quota_windows w SET written_off = w.written_off - g.written_off
           FROM gone g JOIN public.limits l USING (limit_id)
          WHERE w.limit_id = g.limit_id AND w.window_start = g.window_start
            AND g.written_off <> 0 AND l.kind <> 'concurrent')
    SELECT count(*) INTO released FROM gone;
    -- No call is under way for as long as that.
    DELETE FROM public.quota_owners o WHERE o.owner <> p_owner AND o.ended_at < now() - interval '1 day';
    RETURN released;
END
$$;
REVOKE EXECUTE ON FUNCTION release_owner(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION release_owner(uuid, bigint) TO karta_gateway;

-- For gateways of the release before.
CREATE OR REPLACE FUNCTION release_owner(p_owner uuid) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT release_owner(p_owner, 0) $$;
