-- What is charged for: requests that went up with the platform's provider keys, by hour, and how much of it is in the
-- ledger; and credit in advance, which is a limit like others.
--
-- Locks, in this order: the shared accounting lock, `usage_hourly`, `billable_hourly`, windows, audit chains. Who posts
-- takes the organization's ledger first, and then `billable_hourly`.

CREATE TABLE billable_hourly (
    org_id      uuid NOT NULL,
    hour        timestamptz NOT NULL,
    requests    bigint NOT NULL,
    -- Those whose price is unknown: they are charged the stand-in, as budgets are.
    unpriced    bigint NOT NULL,
    picodollars bigint NOT NULL,
    -- What of it the ledger has, in how many transactions.
    posted      bigint NOT NULL DEFAULT 0,
    postings    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, hour)
) WITH (fillfactor = 70);
CREATE INDEX billable_hourly_due ON billable_hourly (org_id, hour) WHERE picodollars <> posted;
GRANT SELECT ON billable_hourly TO karta_admin;

-- A part of a batch added up: `reserved` is what of the money was set apart from the owner's leases.
CREATE TYPE billable_group AS (
    org_id uuid, hour timestamptz, requests bigint, unpriced bigint, picodollars bigint, reserved bigint);

CREATE FUNCTION add_billable(billable billable_group[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, public, pg_temp
AS $$
    INSERT INTO public.billable_hourly AS h (org_id, hour, requests, unpriced, picodollars)
    SELECT b.org_id, b.hour, b.requests, b.unpriced, b.picodollars FROM unnest(billable) b ORDER BY 1, 2
    ON CONFLICT (org_id, hour) DO UPDATE
       SET requests = h.requests + EXCLUDED.requests,
           unpriced = h.unpriced + EXCLUDED.unpriced,
           picodollars = least(h.picodollars::numeric + EXCLUDED.picodollars, 9223372036854775807)::bigint
$$;
REVOKE EXECUTE ON FUNCTION add_billable(billable_group[]) FROM PUBLIC;

-- Credit in advance. Its limit's amount is all that was ever put in, less what was taken out; what was used of it is
-- `settled` in the one window it has.
ALTER TABLE organizations ADD COLUMN prepaid boolean NOT NULL DEFAULT false;
GRANT UPDATE (prepaid) ON organizations TO karta_admin;
ALTER TABLE limits
    DROP CONSTRAINT limits_kind_check, DROP CONSTRAINT limits_amount_check, DROP CONSTRAINT limits_period,
    ADD CONSTRAINT limits_kind_check CHECK (kind IN ('requests', 'tokens', 'concurrent', 'money', 'credit')),
    ADD CONSTRAINT limits_amount_check CHECK (
        CASE kind WHEN 'credit' THEN amount >= 0 AND of_plan AND key_id IS NULL AND model IS NULL
                  ELSE amount BETWEEN 1 AND 1000000000000000000 END),
    ADD CONSTRAINT limits_period CHECK (CASE WHEN kind IN ('concurrent', 'credit') THEN period = 'none'
                                             WHEN kind = 'money' THEN period IN ('day', 'month')
                                             ELSE period <> 'none' END);

-- As in 0007; and what the platform pays for, against credit.
DROP FUNCTION settle_usage(uuid, usage_group[]);
CREATE FUNCTION settle_usage(p_owner uuid, groups usage_group[], billable billable_group[]) RETURNS void
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
          WHERE l.kind <> 'credit'
            AND (l.key_id IS NULL OR l.key_id = g.key_id)
            AND (l.model IS NULL OR l.model = g.model_asked)
            AND g.minute > l.since
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
REVOKE EXECUTE ON FUNCTION settle_usage(uuid, usage_group[], billable_group[]) FROM PUBLIC;

-- Accounts for new rows of one owner's journal. SECURITY DEFINER: the data plane adds, and reads none of it.
CREATE FUNCTION account_usage(p_owner uuid, groups usage_group[], billable billable_group[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM lock_accounting(false);
    PERFORM add_hourly(groups);
    PERFORM add_billable(billable);
    PERFORM settle_usage(p_owner, groups, billable);
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
REVOKE EXECUTE ON FUNCTION account_usage(uuid, usage_group[], billable_group[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION account_usage(uuid, usage_group[], billable_group[]) TO karta_gateway;

-- For gateways of the release before. What they store while both run is charged for after `karta usage rebuild`.
CREATE OR REPLACE FUNCTION account_usage(p_owner uuid, groups usage_group[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT account_usage(p_owner, groups, NULL::billable_group[]) $$;

-- What an organization ever put in, less what was taken out: what it has, and what was charged.
CREATE FUNCTION credit_amount(p_org uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT capped(coalesce(sum(amount), 0)) FROM public.ledger_entries
     WHERE org_id = p_org AND account IN ('credit', 'included', 'usage')
$$;
REVOKE EXECUTE ON FUNCTION credit_amount(uuid) FROM PUBLIC;

-- After money came or went: the limit follows, and gateways learn of it.
CREATE FUNCTION ledger_renew_credit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    UPDATE public.limits l SET amount = credit_amount(NEW.org_id), updated_at = now()
     WHERE l.org_id = NEW.org_id AND l.kind = 'credit' AND l.removed_at IS NULL
       AND l.amount <> credit_amount(NEW.org_id);
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ledger_renew_credit() FROM PUBLIC;
-- Deferred, so that all entries are there.
CREATE CONSTRAINT TRIGGER renew_credit AFTER INSERT ON ledger_transactions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind NOT IN ('usage', 'correction')) EXECUTE FUNCTION ledger_renew_credit();

-- Makes an organization's credit a limit, counted from all that was ever used. Nobody accounts for usage meanwhile.
CREATE FUNCTION open_credit(p_org uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    opened bigint;
BEGIN
    PERFORM lock_accounting(true);
    PERFORM lock_ledger(p_org);
    UPDATE public.limits SET removed_at = now(), updated_at = now()
     WHERE org_id = p_org AND kind = 'credit' AND removed_at IS NULL;
    INSERT INTO public.limits (org_id, kind, period, amount, of_plan)
    VALUES (p_org, 'credit', 'none', credit_amount(p_org), true)
    RETURNING limit_id INTO opened;
    INSERT INTO public.quota_windows (limit_id, window_start, settled)
    SELECT opened, to_timestamp(0), capped(coalesce(sum(picodollars), 0))
      FROM public.billable_hourly WHERE org_id = p_org;
END
$$;
REVOKE EXECUTE ON FUNCTION open_credit(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_credit(uuid) TO karta_admin;

-- Posts an organization's hours before a moment, as far as they are not posted; returns how many. Included credit goes
-- first. What turns out to be less than was posted gives back: first what the hour took of credit.
CREATE FUNCTION charge_usage(p_org uuid, p_before timestamptz, p_rows integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    due      public.billable_hourly%ROWTYPE;
    included bigint;
    owed     bigint;
    taken    bigint;
    source   text;
    charged  integer := 0;
BEGIN
    PERFORM lock_ledger(p_org);
    SELECT coalesce(sum(amount), 0) INTO included
      FROM public.ledger_entries WHERE org_id = p_org AND account = 'included';
    FOR due IN
        SELECT * FROM public.billable_hourly
         WHERE org_id = p_org AND hour < p_before AND picodollars <> posted
         ORDER BY hour LIMIT p_rows FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        owed := due.picodollars - due.posted;
        IF owed > 0 THEN
            taken := least(greatest(included, 0), owed);
        ELSE
            SELECT least(0, owed - coalesce(sum(e.amount), 0)) INTO taken
              FROM public.ledger_transactions t JOIN public.ledger_entries e USING (transaction_id)
             WHERE t.org_id = p_org AND t.period_start = due.hour AND t.kind IN ('usage', 'correction')
               AND e.account = 'credit';
        END IF;
        source := format('usage:%s:%s', p_org, to_char(due.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'));
        IF due.postings > 0 THEN
            source := source || ':' || due.postings + 1;
        END IF;
        IF post_ledger(
               p_org, CASE due.postings WHEN 0 THEN 'usage' ELSE 'correction' END, source, due.hour,
               format('%s request%s', due.requests, CASE WHEN due.requests <> 1 THEN 's' END),
               array_remove(ARRAY[CASE WHEN taken <> 0 THEN 'included' END,
                                  CASE WHEN owed <> taken THEN 'credit' END, 'usage'], NULL),
               array_remove(ARRAY[nullif(-taken, 0), nullif(taken - owed, 0), owed], NULL)) IS NULL
        THEN
            RAISE EXCEPTION 'the ledger has an hour that is not marked as posted' USING ERRCODE = 'unique_violation';
        END IF;
        included := included - taken;
        UPDATE public.billable_hourly SET posted = picodollars, postings = postings + 1
         WHERE org_id = p_org AND hour = due.hour;
        charged := charged + 1;
    END LOOP;
    RETURN charged;
END
$$;
REVOKE EXECUTE ON FUNCTION charge_usage(uuid, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION charge_usage(uuid, timestamptz, integer) TO karta_admin;

-- As in 0006; and credit that was written off with a journal that has not turned up for a week is to be had again.
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
             WHERE l.kind = 'concurrent' AND EXISTS (
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
             WHERE l.kind = 'credit' AND EXISTS (
                   SELECT FROM public.quota_leases q
                    WHERE q.limit_id = w.limit_id AND q.expires_at < now() - interval '7 days')
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

-- As in 0010; and what is charged for. What differs from what was posted is then posted as a correction.
--
-- Makes the hourly sums of one organization anew, for the whole hours of [since, until). Nobody accounts for usage
-- meanwhile, so choose spans within a day. Where no requests are kept any more the sums stay as they are. Returns how
-- many there are now.
CREATE OR REPLACE FUNCTION rebuild_hourly(p_org uuid, since timestamptz, until timestamptz) RETURNS integer
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
    UPDATE public.billable_hourly h SET requests = 0, unpriced = 0, picodollars = 0
     WHERE h.org_id = p_org AND h.hour >= date_trunc('hour', since, 'UTC') AND h.hour < date_trunc('hour', until, 'UTC')
       AND EXISTS (SELECT FROM public.usage u
                    WHERE u.org_id = p_org AND u.started_at >= date_trunc('hour', since, 'UTC')
                      AND u.started_at < date_trunc('hour', until, 'UTC'));
    INSERT INTO public.billable_hourly (org_id, hour, requests, unpriced, picodollars)
    SELECT p_org, date_trunc('hour', u.started_at, 'UTC'), count(*),
           count(*) FILTER (WHERE u.cost_picodollars IS NULL), capped(sum(u.charged_picodollars))
      FROM public.usage u
     WHERE u.org_id = p_org AND u.started_at >= date_trunc('hour', since, 'UTC')
       AND u.started_at < date_trunc('hour', until, 'UTC') AND u.credential_kind = 'platform'
     GROUP BY 2
    ON CONFLICT (org_id, hour) DO UPDATE
       SET requests = EXCLUDED.requests, unpriced = EXCLUDED.unpriced, picodollars = EXCLUDED.picodollars;
    SELECT count(*) INTO made FROM public.usage_hourly
     WHERE org_id = p_org AND hour >= date_trunc('hour', since, 'UTC') AND hour < date_trunc('hour', until, 'UTC');
    RETURN made;
END
$$;
