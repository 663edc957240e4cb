-- Money: an append-only, double-entry ledger. What an organization has is the sum of its entries, and nothing else.
--
-- Accounts of each organization. `credit`: what it paid in advance, or owes (below zero). `included`: what is left of the
-- month's credit that comes with its plan. The others are where that came from and went to, and are told as they are
-- from there: `usage` (earned), `stripe` (money on its way), `refunds`, `promotion` (given with plans), `adjustments`.
--
-- Each transaction adds up to zero, is written once for each `source`, and never changes. Nobody but the owner writes
-- except by post_ledger.

CREATE TABLE ledger_transactions (
    transaction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES organizations,
    kind           text NOT NULL CHECK (kind IN ('top_up', 'payment', 'refund', 'usage', 'correction', 'grant', 'expiry',
                                                 'adjustment')),
    -- Why it is there, and what keeps it from being written twice: stripe:evt_…, usage:ORG:HOUR, grant:ORG:MONTH:1.
    source         text NOT NULL UNIQUE CHECK (char_length(source) BETWEEN 1 AND 200),
    -- The hour of what was used, or the month of what was given.
    period_start   timestamptz,
    note           text NOT NULL DEFAULT '' CHECK (char_length(note) <= 200),
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- Its entries are of the same transaction of the database: none is added later.
    written_by     xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ledger_transactions_org ON ledger_transactions (org_id, transaction_id);
CREATE INDEX ledger_transactions_period ON ledger_transactions (org_id, period_start) WHERE period_start IS NOT NULL;

CREATE TABLE ledger_entries (
    transaction_id bigint NOT NULL REFERENCES ledger_transactions,
    account        text NOT NULL CHECK (account IN ('credit', 'included', 'usage', 'stripe', 'refunds', 'promotion',
                                                    'adjustments')),
    org_id         uuid NOT NULL,
    amount         bigint NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (transaction_id, account)
);
CREATE INDEX ledger_entries_account ON ledger_entries (org_id, account) INCLUDE (amount);

CREATE FUNCTION ledger_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only'
        USING ERRCODE = 'KA001', HINT = 'Post another transaction that puts it right.';
END
$$;

CREATE FUNCTION ledger_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    whole record;
BEGIN
    SELECT t.org_id, t.written_by, sum(e.amount) AS total, count(*) AS entries, bool_and(e.org_id = t.org_id) AS alike
      INTO whole
      FROM public.ledger_transactions t LEFT JOIN public.ledger_entries e USING (transaction_id)
     WHERE t.transaction_id = NEW.transaction_id
     GROUP BY t.transaction_id;
    IF whole.total IS DISTINCT FROM 0 OR whole.entries < 2 OR NOT whole.alike THEN
        RAISE EXCEPTION 'the entries of a transaction of the ledger add up to zero' USING ERRCODE = 'check_violation';
    END IF;
    IF whole.written_by <> pg_current_xact_id() THEN
        RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'KA001', HINT = 'Post a transaction of its own.';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
-- At commit, when all entries are there.
CREATE CONSTRAINT TRIGGER adds_up AFTER INSERT ON ledger_transactions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_check();
CREATE CONSTRAINT TRIGGER adds_up AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_check();
ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER adds_up;
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER adds_up;
REVOKE EXECUTE ON FUNCTION ledger_refuse() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION ledger_check() FROM PUBLIC;

-- Until the transaction ends nobody else posts for the organization: what is read of its accounts stays true. The number
-- is arbitrary, and only this function's.
CREATE FUNCTION lock_ledger(p_org uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog
AS $$ SELECT pg_advisory_xact_lock(hashtextextended(p_org::text, 4738126500024)) $$;
REVOKE EXECUTE ON FUNCTION lock_ledger(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_ledger(uuid) TO karta_admin;

-- Posts one transaction; returns its id, or NULL when the same was posted before. Another one of the same source is
-- refused: 23505.
CREATE FUNCTION post_ledger(
    p_org uuid, p_kind text, p_source text, p_period timestamptz, p_note text, p_accounts text[], p_amounts bigint[])
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    before public.ledger_transactions%ROWTYPE;
    posted bigint;
BEGIN
    IF (SELECT sum(a) FROM unnest(p_amounts) a) IS DISTINCT FROM 0 THEN
        RAISE EXCEPTION 'the entries of a transaction of the ledger add up to zero' USING ERRCODE = 'check_violation';
    END IF;
    PERFORM lock_ledger(p_org);
    SELECT * INTO before FROM public.ledger_transactions t WHERE t.source = p_source;
    IF FOUND THEN
        IF before.org_id <> p_org OR before.kind <> p_kind OR EXISTS (
            SELECT account, amount FROM public.ledger_entries WHERE transaction_id = before.transaction_id
            EXCEPT SELECT * FROM unnest(p_accounts, p_amounts))
        THEN
            RAISE EXCEPTION 'the ledger has another transaction of that source' USING ERRCODE = 'unique_violation';
        END IF;
        RETURN NULL;
    END IF;
    INSERT INTO public.ledger_transactions (org_id, kind, source, period_start, note)
    VALUES (p_org, p_kind, p_source, p_period, p_note)
    RETURNING transaction_id INTO posted;
    INSERT INTO public.ledger_entries (transaction_id, account, org_id, amount)
    SELECT posted, e.account, p_org, e.amount FROM unnest(p_accounts, p_amounts) AS e (account, amount);
    RETURN posted;
END
$$;
REVOKE EXECUTE ON FUNCTION post_ledger(uuid, text, text, timestamptz, text, text[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION post_ledger(uuid, text, text, timestamptz, text, text[], bigint[]) TO karta_admin;
GRANT SELECT ON ledger_transactions, ledger_entries TO karta_admin;
