-- Requests leave when their organization's plan keeps them no longer, a week at a time and in small batches.

-- Since when an organization has its plan. Those that are there now begin anew: nothing goes on the day of an upgrade.
ALTER TABLE organizations ADD COLUMN plan_since timestamptz NOT NULL DEFAULT now();
CREATE FUNCTION organization_has_plan_since() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.plan_since := now();
    RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION organization_has_plan_since() FROM PUBLIC;
CREATE TRIGGER has_plan_since BEFORE UPDATE OF plan ON organizations
    FOR EACH ROW WHEN (OLD.plan <> NEW.plan) EXECUTE FUNCTION organization_has_plan_since();

CREATE TABLE usage_expiry (
    org_id     uuid PRIMARY KEY REFERENCES organizations,
    -- Requests before this are gone, or going: the sums of their hours are believed, and never made anew.
    kept_since timestamptz NOT NULL,
    marked_at  timestamptz NOT NULL DEFAULT now(),
    done       boolean NOT NULL
);
CREATE INDEX usage_expiry_going ON usage_expiry (org_id) WHERE NOT done;
GRANT SELECT ON usage_expiry TO karta_admin;

-- Notes of organizations of a plan which of their requests go: those before the week in which `p_days` ago was, once they
-- have had the plan for `p_grace`. `going`: whether there are any. Nobody makes sums anew meanwhile, so whoever does
-- so afterwards sees the note. SECURITY DEFINER, here and below: no program deletes usage otherwise.
CREATE FUNCTION mark_usage_expiry(p_plan text, p_days integer, p_grace interval, orgs_max integer)
RETURNS TABLE (org_id uuid, kept_since timestamptz, going boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    before timestamptz := date_trunc('week', now() - make_interval(days => p_days), 'UTC');
BEGIN
    IF p_days < 30 OR p_grace < interval '1 day' OR orgs_max NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'no plan keeps requests for less than 30 days' USING ERRCODE = 'check_violation';
    END IF;
    PERFORM lock_accounting(false);
    -- The number is arbitrary, and only this function's. Who comes second leaves it to the first.
    IF NOT pg_try_advisory_xact_lock(4738126500033) THEN
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO public.usage_expiry AS x (org_id, kept_since, done)
    SELECT o.org_id, before,
           NOT EXISTS (SELECT FROM public.usage u WHERE u.org_id = o.org_id AND u.started_at < before)
      FROM public.organizations o LEFT JOIN public.usage_expiry e ON e.org_id = o.org_id
     WHERE o.plan = p_plan AND o.plan_since < now() - p_grace
       AND (e.org_id IS NULL OR e.kept_since < before)
     ORDER BY o.org_id LIMIT orgs_max
    ON CONFLICT ON CONSTRAINT usage_expiry_pkey DO UPDATE
       SET kept_since = EXCLUDED.kept_since, marked_at = now(), done = EXCLUDED.done
    RETURNING x.org_id, x.kept_since, NOT x.done;
END
$$;
REVOKE EXECUTE ON FUNCTION mark_usage_expiry(text, integer, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mark_usage_expiry(text, integer, interval, integer) TO karta_admin;

-- Deletes requests of one organization of which that is noted, `rows_max` at most; returns how many, or NULL when there is
-- nothing to do. Who has another plan since keeps what is left.
CREATE FUNCTION expire_usage(rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    due     public.usage_expiry%ROWTYPE;
    starts  timestamptz[];
    ids     uuid[];
    deleted integer := 0;
BEGIN
    IF rows_max NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'rows_max is %, must be 1 to 10000', rows_max USING ERRCODE = 'check_violation';
    END IF;
    SELECT * INTO due FROM public.usage_expiry x WHERE NOT x.done ORDER BY x.org_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM public.organizations o WHERE o.org_id = due.org_id AND o.plan_since <= due.marked_at) THEN
        SELECT array_agg(old.started_at), array_agg(old.request_id) INTO starts, ids
          FROM (SELECT u.started_at, u.request_id FROM public.usage u
                 WHERE u.org_id = due.org_id AND u.started_at < due.kept_since
                 ORDER BY u.started_at LIMIT rows_max) old;
        DELETE FROM public.usage u USING unnest(starts, ids) AS old (started_at, request_id)
         WHERE u.started_at = old.started_at AND u.request_id = old.request_id AND u.started_at < due.kept_since;
        GET DIAGNOSTICS deleted = ROW_COUNT;
    END IF;
    UPDATE public.usage_expiry x SET done = true WHERE x.org_id = due.org_id AND deleted < rows_max;
    RETURN deleted;
END
$$;
REVOKE EXECUTE ON FUNCTION expire_usage(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_usage(integer) TO karta_admin;

-- Sums are made anew only of hours whose requests are all there.
ALTER FUNCTION rebuild_hourly(uuid, timestamptz, timestamptz) RENAME TO rebuild_kept_hours;
CREATE FUNCTION rebuild_hourly(p_org uuid, since timestamptz, until timestamptz) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM lock_accounting(true);
    RETURN rebuild_kept_hours(
        p_org, greatest(since, (SELECT x.kept_since FROM public.usage_expiry x WHERE x.org_id = p_org)), until);
END
$$;
REVOKE EXECUTE ON FUNCTION rebuild_hourly(uuid, timestamptz, timestamptz) FROM PUBLIC;
