-- Limits, and how much of each is spent or held. One mechanism for requests, tokens, money and concurrent streams.
--
-- Escrow. A worker decides in memory, out of an amount that was set apart for it here (a lease, `held`). What it used is
-- told by its usage rows, whenever they come; accounting moves that from `held` to `settled`. At every moment
--
--     settled + written_off + sum of positive `held`  <=  amount
--
-- of every window, or nothing more is granted. It can be above only after a limit was lowered, or a request cost more
-- than was reserved for it.
--
-- Owner. Leases belong to a usage journal (a directory with an id of its own), not to a process: the journal outlives
-- the process and tells what it spent. A lease that nobody renewed is written off, as if all of it had been spent,
-- until its journal or its owner turns up.
--
-- Locks. Whoever touches leases locks their windows first, in the order of (limit_id, window_start), and no row of
-- `quota_leases` is changed without its window being locked. So refills and accounting wait for, and never block, each
-- other.

CREATE TABLE limits (
    limit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id     uuid NOT NULL REFERENCES organizations,
    key_id     text REFERENCES api_keys,
    model      text CHECK (char_length(model) BETWEEN 1 AND 200),
    kind       text NOT NULL CHECK (kind IN ('requests', 'tokens', 'concurrent', 'money')),
    period     text NOT NULL CHECK (period IN ('minute', 'day', 'month', 'none')),
    -- Requests, tokens, streams at once, or picodollars.
    amount     bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000000000),
    -- A soft limit refuses nothing; it only counts, and tells.
    hard       boolean NOT NULL DEFAULT true,
    -- Percentages at which a budget tells.
    thresholds smallint[] NOT NULL DEFAULT '{50,80,100}' CHECK (
        cardinality(thresholds) <= 10 AND 1 <= ALL (thresholds) AND 1000 >= ALL (thresholds)),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- A removed limit stays, because windows and events name it; setting it again makes another.
    removed_at timestamptz,
    CONSTRAINT limits_period CHECK (CASE kind WHEN 'concurrent' THEN period = 'none'
                                              WHEN 'money' THEN period IN ('day', 'month')
                                              ELSE period <> 'none' END)
);
CREATE UNIQUE INDEX limits_live ON limits (org_id, key_id, model, kind, period) NULLS NOT DISTINCT
    WHERE removed_at IS NULL;
GRANT SELECT (limit_id, org_id, key_id, model, kind, period, amount, hard, thresholds, removed_at)
    ON limits TO karta_gateway;
GRANT SELECT, INSERT (org_id, key_id, model, kind, period, amount, hard, thresholds),
      UPDATE (amount, hard, thresholds, updated_at, removed_at)
    ON limits TO karta_admin;
CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE ON limits FOR EACH ROW EXECUTE FUNCTION notify_change();

-- Half-empty pages: these rows change often, and a change on the same page touches no index.
CREATE TABLE quota_windows (
    limit_id     bigint NOT NULL,
    window_start timestamptz NOT NULL,
    settled      bigint NOT NULL DEFAULT 0,
    written_off  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (limit_id, window_start)
) WITH (fillfactor = 50);

CREATE TABLE quota_leases (
    limit_id     bigint NOT NULL,
    window_start timestamptz NOT NULL,
    owner        uuid NOT NULL,
    -- Free, reserved, and used but not yet accounted for. Below zero: more was used than had been granted, a debt that
    -- the next grant repays.
    held         bigint NOT NULL,
    -- What `held` was when the lease ran out.
    written_off  bigint NOT NULL DEFAULT 0,
    -- All that the owner says it was granted, so that an answer it never got is undone by its next call; since its
    -- `opened`, which is another number when it has forgotten what it was granted.
    acquired     bigint NOT NULL,
    opened       bigint NOT NULL,
    -- Grows with each call: a call that was overtaken changes nothing.
    turn         bigint NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (limit_id, window_start, owner)
) WITH (fillfactor = 50);
CREATE INDEX quota_leases_owner ON quota_leases (owner);
GRANT SELECT ON quota_windows, quota_leases TO karta_admin;

-- A budget has passed a threshold: once for each in a period. What webhooks and mail are sent for.
CREATE TABLE budget_events (
    limit_id     bigint NOT NULL,
    window_start timestamptz NOT NULL,
    threshold    smallint NOT NULL,
    settled      bigint NOT NULL,
    amount       bigint NOT NULL,
    org_id       uuid NOT NULL,
    key_id       text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (limit_id, window_start, threshold)
);
CREATE INDEX budget_events_org ON budget_events (org_id, created_at);
GRANT SELECT ON budget_events TO karta_admin;

-- The start of the window of a period that holds a moment: a pure function of it, in UTC.
CREATE FUNCTION quota_window(period text, moment timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$ SELECT CASE WHEN period = 'none' THEN to_timestamp(0) ELSE date_trunc(period, moment, 'UTC') END $$;

-- Locks windows in their one order, making those that are missing.
CREATE FUNCTION lock_quota_windows(ids bigint[], starts timestamptz[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    INSERT INTO public.quota_windows (limit_id, window_start)
    SELECT a.limit_id, a.window_start FROM unnest(ids, starts) AS a (limit_id, window_start)
     ORDER BY a.limit_id, a.window_start
    ON CONFLICT DO NOTHING;
    PERFORM 1
       FROM public.quota_windows w
       JOIN unnest(ids, starts) AS a (limit_id, window_start) USING (limit_id, window_start)
      ORDER BY w.limit_id, w.window_start
        FOR NO KEY UPDATE OF w;
END
$$;
REVOKE EXECUTE ON FUNCTION lock_quota_windows(bigint[], timestamptz[]) FROM PUBLIC;

-- Writes off what other owners let run out, in windows that are locked. Streams end with their process, so of these
-- nothing counts as spent.
CREATE FUNCTION expire_leases(p_owner uuid, ids bigint[], starts timestamptz[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH dead AS (
         SELECT q.limit_id, q.window_start, q.owner, q.held
           FROM public.quota_leases q JOIN unnest(ids, starts) AS a (limit_id, window_start) USING (limit_id, window_start)
          WHERE q.owner <> p_owner AND q.expires_at < clock_timestamp() AND q.held > 0),
    emptied AS (
         UPDATE public.quota_leases q SET written_off = q.written_off + q.held, held = 0
           FROM dead d WHERE (q.limit_id, q.window_start, q.owner) = (d.limit_id, d.window_start, d.owner)),
    lost AS (
         SELECT d.limit_id, d.window_start, sum(d.held)::bigint AS held
           FROM dead d JOIN public.limits l USING (limit_id)
          WHERE l.kind <> 'concurrent'
          GROUP BY 1, 2)
    UPDATE public.quota_windows w SET written_off = w.written_off + lost.held
      FROM lost WHERE (w.limit_id, w.window_start) = (lost.limit_id, lost.window_start)
$$;
REVOKE EXECUTE ON FUNCTION expire_leases(uuid, bigint[], timestamptz[]) FROM PUBLIC;

-- Refills, gives back and renews the leases of one owner: all it asks for, in one call. Times are seconds since 1970.
--
-- For each lease the owner tells: `acquired`, what it was granted so far less what it has given back (so giving back is
-- to say less, and an answer that got lost is taken back); `unspent`, its balance and reservations, in case the lease is
-- not here any more; `wanted`, how much more it would like; and `minimum`, below which a grant is of no use to it.
--
-- `state`: 'open'; 'closed', the window is too far from the database's own time; 'gone', there is no such hard limit;
-- 'late', a later call has overtaken this one. `available`: what more could have been had. `last_turn`: the turn that
-- the next call must be above.
CREATE FUNCTION settle_leases(
    p_owner uuid, p_turn bigint, p_lease_seconds integer, p_limits bigint[], p_starts bigint[], p_opened bigint[],
    p_acquired bigint[], p_unspent bigint[], p_wanted bigint[], p_minimum bigint[])
RETURNS TABLE (limit_id bigint, window_start bigint, state text, granted bigint, available bigint, last_turn bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ids    bigint[];
    starts timestamptz[];
BEGIN
    IF p_lease_seconds NOT BETWEEN 1 AND 3600 OR cardinality(p_limits) > 10000 THEN
        RAISE EXCEPTION 'ask for 10000 leases at most, of 1 to 3600 seconds' USING ERRCODE = 'check_violation';
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
REVOKE EXECUTE ON FUNCTION settle_leases(
    uuid, bigint, integer, bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION settle_leases(
    uuid, bigint, integer, bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[]) TO karta_gateway;

-- Gives back all that an owner holds. Right only when its whole journal has been accounted for.
CREATE FUNCTION release_owner(p_owner uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    ids      bigint[];
    starts   timestamptz[];
    released integer;
BEGIN
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
    RETURN released;
END
$$;
REVOKE EXECUTE ON FUNCTION release_owner(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION release_owner(uuid) TO karta_gateway;

-- How long a window is kept after it began. What is settled later than that is counted nowhere but in `usage`.
CREATE FUNCTION quota_kept(period text) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$ SELECT CASE period WHEN 'minute' THEN interval '1 hour' WHEN 'day' THEN interval '90 days'
                         WHEN 'month' THEN interval '2 years' ELSE interval '1000 years' END $$;

-- Deletes windows that nobody needs any more, with their leases, and the leases of concurrent streams whose owner has
-- been silent for a day; at most `rows_max` windows. Returns how many rows went.
CREATE FUNCTION prune_quota(rows_max integer) RETURNS integer
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
              FROM public.quota_windows w JOIN public.limits l USING (limit_id)
             WHERE w.window_start + quota_kept(l.period) < now()
             LIMIT rows_max FOR NO KEY UPDATE OF w SKIP LOCKED) old;
    DELETE FROM public.quota_leases q USING unnest(ids, starts) AS a (limit_id, window_start)
     WHERE q.limit_id = a.limit_id AND q.window_start = a.window_start;
    DELETE FROM public.quota_windows w USING unnest(ids, starts) AS a (limit_id, window_start)
     WHERE w.limit_id = a.limit_id AND w.window_start = a.window_start;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    SELECT array_agg(w.limit_id) INTO ids
      FROM (SELECT w.limit_id
              FROM public.quota_windows w JOIN public.limits l USING (limit_id)
             WHERE l.period = 'none' AND EXISTS (
                   SELECT FROM public.quota_leases q
                    WHERE q.limit_id = w.limit_id AND q.expires_at < now() - interval '1 day')
             LIMIT rows_max FOR NO KEY UPDATE OF w SKIP LOCKED) w;
    DELETE FROM public.quota_leases q
     WHERE q.limit_id = ANY (ids) AND q.expires_at < now() - interval '1 day';
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN pruned + more;
END
$$;
REVOKE EXECUTE ON FUNCTION prune_quota(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_quota(integer) TO karta_gateway;
