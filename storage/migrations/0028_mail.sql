-- Mail leaves: how far each message is, who gets none any more, and who does not want which.

-- Nothing could send it until now, and its links have expired.
DELETE FROM outbox WHERE sent_at IS NULL;

DROP INDEX outbox_due;
ALTER TABLE outbox
    DROP CONSTRAINT outbox_check,
    -- `sending`: somebody claimed it until `due_at`. Found so later, it may have been sent or not: Postmark is asked.
    ADD COLUMN state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'failed')),
    -- What a letter says that opens nothing. Written by the database itself, which cannot seal.
    ADD COLUMN facts      jsonb CHECK (octet_length(facts::text) <= 16384),
    ADD COLUMN due_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN attempts   integer NOT NULL DEFAULT 0,
    -- Of whoever claimed it last: only they may say what came of it.
    ADD COLUMN claim      uuid,
    ADD COLUMN ended_at   timestamptz,
    -- Postmark's id of it.
    ADD COLUMN postmark_id uuid,
    -- Why it failed.
    ADD COLUMN reason     text CHECK (char_length(reason) <= 300);
UPDATE outbox SET state = 'sent', ended_at = sent_at;
ALTER TABLE outbox
    DROP COLUMN sent_at,
    ADD CONSTRAINT outbox_ended CHECK ((ended_at IS NOT NULL) = (state IN ('sent', 'failed'))),
    -- What has ended is forgotten.
    ADD CONSTRAINT outbox_content CHECK (num_nonnulls(sealed, facts) = CASE WHEN ended_at IS NULL THEN 1 ELSE 0 END);
CREATE INDEX outbox_due ON outbox (due_at, message_id) WHERE ended_at IS NULL;
CREATE INDEX outbox_ended_at ON outbox (ended_at) WHERE ended_at IS NOT NULL;
GRANT UPDATE (state, facts, sealed, due_at, attempts, claim, ended_at, postmark_id, reason) ON outbox TO karta_admin;

-- Addresses that get no mail: because it bounced, or because its reader complained or unsubscribed.
CREATE TABLE mail_suppressions (
    email      text NOT NULL CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    -- The message stream, or '*' for all: an address that does not exist exists for none.
    stream     text NOT NULL CHECK (stream ~ '^[a-z0-9*_-]{1,40}$'),
    reason     text NOT NULL CHECK (reason IN ('hard_bounce', 'spam_complaint', 'unsubscribed', 'inactive')),
    -- By the clock of who told it; what is older is not believed.
    changed_at timestamptz NOT NULL,
    lifted_at  timestamptz,
    PRIMARY KEY (email, stream)
);
CREATE INDEX mail_suppressions_newest ON mail_suppressions (changed_at DESC) WHERE lifted_at IS NULL;
GRANT SELECT, INSERT, UPDATE (reason, changed_at, lifted_at) ON mail_suppressions TO karta_admin;

-- Of the letters that can be switched off, those that a person has.
CREATE TABLE mail_opt_outs (
    user_id uuid NOT NULL REFERENCES users,
    topic   text NOT NULL CHECK (topic IN ('keys', 'budgets', 'webhooks')),
    PRIMARY KEY (user_id, topic)
);
GRANT SELECT, INSERT, DELETE ON mail_opt_outs TO karta_admin;

-- Where a person has signed in from: a digest of browser and network, so that a new one is told to them.
CREATE TABLE sign_in_places (
    user_id uuid NOT NULL REFERENCES users,
    place   bytea NOT NULL CHECK (octet_length(place) = 32),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, place)
);
GRANT SELECT, INSERT, UPDATE (seen_at), DELETE ON sign_in_places TO karta_admin;

-- Incidents are told to whoever asked for it, as changed sub-processors are.
ALTER TABLE subscriptions
    DROP CONSTRAINT subscriptions_topic_check,
    ADD CONSTRAINT subscriptions_topic_check CHECK (topic IN ('sub_processors', 'incidents'));

-- Puts a letter to the members of some roles into the outbox, but for those who do not want its topic (NULL: nobody is
-- asked). Returns to how many.
CREATE FUNCTION write_members(p_org uuid, p_kind text, p_roles text[], p_topic text, p_facts jsonb) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH written AS (
         INSERT INTO public.outbox (message_id, kind, recipient, facts)
         SELECT gen_random_uuid(), p_kind, u.email,
                p_facts || jsonb_build_object('organization', o.name, 'org_id', o.org_id)
           FROM public.memberships m
           JOIN public.users u USING (user_id)
           JOIN public.organizations o USING (org_id)
          WHERE m.org_id = p_org AND m.role = ANY (p_roles) AND u.deleted_at IS NULL
            AND NOT EXISTS (SELECT FROM public.mail_opt_outs x WHERE x.user_id = u.user_id AND x.topic = p_topic)
          ORDER BY m.created_at, m.user_id
          LIMIT 1000
         RETURNING 1)
    SELECT count(*) FROM written
$$;
REVOKE EXECUTE ON FUNCTION write_members(uuid, text, text[], text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION write_members(uuid, text, text[], text, jsonb) TO karta_admin;

-- The highest threshold that was passed is told, where one account passes several: to those who look after money.
CREATE FUNCTION write_budget_letters() RETURNS trigger
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
REVOKE EXECUTE ON FUNCTION write_budget_letters() FROM PUBLIC;
CREATE TRIGGER budget_letters AFTER INSERT ON budget_events
    REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION write_budget_letters();

-- Puts a letter to all who subscribed to a topic into the outbox; the link that ends it is made of their id.
CREATE FUNCTION write_subscribers(p_topic text, p_kind text, p_facts jsonb, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH written AS (
         INSERT INTO public.outbox (message_id, kind, recipient, facts)
         SELECT gen_random_uuid(), p_kind, s.email,
                p_facts || jsonb_build_object('subscription_id', s.subscription_id)
           FROM public.subscriptions s
          WHERE s.topic = p_topic AND s.confirmed_at IS NOT NULL
          ORDER BY s.created_at, s.subscription_id
          LIMIT p_most
         RETURNING 1)
    SELECT count(*) FROM written
$$;
REVOKE EXECUTE ON FUNCTION write_subscribers(text, text, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION write_subscribers(text, text, jsonb, integer) TO karta_admin;
