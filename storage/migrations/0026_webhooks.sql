-- Outgoing webhooks: where they go, what is to be told, and how telling it went.
--
-- An event is written in the transaction that causes it, by triggers where the cause leaves its mark anyway (the audit
-- log, the signed checkpoints), so that no caller can forget it; what has no such mark calls `emit_webhook` itself.
-- Afterwards a worker spreads the event: one delivery for each endpoint that chose it.

CREATE TABLE webhook_endpoints (
    endpoint_id   uuid PRIMARY KEY,
    org_id        uuid NOT NULL REFERENCES organizations,
    url           text NOT NULL CHECK (url ~ '^https://' AND char_length(url) <= 2048),
    description   text NOT NULL CHECK (char_length(description) <= 200),
    events        text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 100),
    -- One delivery at a time, in the order of the events.
    ordered       boolean NOT NULL,
    state         text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    -- Why it is disabled: somebody said so, it answered 410, or nothing but failures for days.
    reason        text CHECK (reason IN ('asked', 'gone', 'failing')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Of the first of the failures since the last success, and how many they are.
    failing_since timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    -- Who waited longest is served first.
    claimed_at    timestamptz NOT NULL DEFAULT '-infinity',
    CHECK ((state = 'disabled') = (reason IS NOT NULL))
);
CREATE INDEX webhook_endpoints_org ON webhook_endpoints (org_id, created_at);

-- Sealed like provider keys, under the organization's own key. NULL: the one that signs; else it still signs beside its
-- successor, until then.
CREATE TABLE webhook_secrets (
    secret_id          uuid PRIMARY KEY,
    endpoint_id        uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    master_key_version integer NOT NULL,
    wrapped_key        bytea NOT NULL,
    ciphertext         bytea NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    ends_at            timestamptz
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (endpoint_id) WHERE ends_at IS NULL;
CREATE INDEX webhook_secrets_endpoint ON webhook_secrets (endpoint_id);

-- The outbox. `org_id` is the nil UUID for what concerns everybody.
CREATE TABLE webhook_events (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    org_id      uuid NOT NULL,
    type        text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$' AND char_length(type) <= 64),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    data        jsonb NOT NULL CHECK (octet_length(data::text) <= 32768),
    -- What makes a second one of the same a repetition.
    once        text UNIQUE CHECK (char_length(once) <= 200),
    -- For one endpoint alone: a trial.
    endpoint_id uuid REFERENCES webhook_endpoints ON DELETE CASCADE,
    -- What is sent, and when it was spread.
    body        text,
    spread_at   timestamptz,
    CHECK ((body IS NULL) = (spread_at IS NULL))
);
CREATE INDEX webhook_events_unspread ON webhook_events (seq) WHERE spread_at IS NULL;
CREATE INDEX webhook_events_oldest ON webhook_events (created_at);
CREATE INDEX webhook_events_endpoint ON webhook_events (endpoint_id) WHERE endpoint_id IS NOT NULL;

CREATE TABLE webhook_deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    event_seq   bigint NOT NULL REFERENCES webhook_events ON DELETE CASCADE,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    -- Tries since it became pending.
    tries       integer NOT NULL DEFAULT 0,
    -- When it may be taken; of one that a worker holds, when that one's lease ends.
    due_at      timestamptz NOT NULL DEFAULT now(),
    claim       uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    UNIQUE (endpoint_id, event_seq),
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK (state = 'pending' OR claim IS NULL)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_order ON webhook_deliveries (endpoint_id, delivery_id) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (endpoint_id, delivery_id DESC);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_seq);

-- One row for each try, with what it came to: a status, or a reason why there is none.
CREATE TABLE webhook_attempts (
    attempt_id  uuid PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES webhook_deliveries ON DELETE CASCADE,
    started_at  timestamptz NOT NULL,
    duration_ms integer NOT NULL CHECK (duration_ms >= 0),
    status      integer CHECK (status BETWEEN 100 AND 999),
    reason      text CHECK (char_length(reason) <= 40),
    headers     jsonb NOT NULL,
    excerpt     text NOT NULL CHECK (octet_length(excerpt) <= 4096),
    CHECK ((status IS NULL) = (reason IS NOT NULL))
);
CREATE INDEX webhook_attempts_delivery ON webhook_attempts (delivery_id, started_at);

-- Which rows of the audit log are events, and of what type. `storage.webhook_events` says the rest of them.
CREATE TABLE webhook_sources (
    audit_event text PRIMARY KEY,
    type        text NOT NULL
);
INSERT INTO webhook_sources VALUES
    ('api_key:minted', 'key.minted'),
    ('api_key:rotated', 'key.rotated'),
    ('api_key:scope_changed', 'key.scope_changed'),
    ('api_key:revoked', 'key.revoked'),
    ('credential:set', 'byok.set'),
    ('credential:replaced', 'byok.replaced'),
    ('credential:rotated', 'byok.rotated'),
    ('credential:revoked', 'byok.revoked'),
    ('limit:set', 'budget.set'),
    ('limit:removed', 'budget.removed'),
    ('budget:threshold_reached', 'budget.threshold_reached'),
    ('member:invited', 'member.invited'),
    ('member:added', 'member.added'),
    ('member:role_changed', 'member.role_changed'),
    ('member:removed', 'member.removed'),
    ('organization:plan_changed', 'plan.changed'),
    ('incident:opened', 'incident.opened'),
    ('incident:updated', 'incident.updated'),
    ('incident:resolved', 'incident.resolved'),
    ('maintenance:planned', 'incident.maintenance_planned'),
    ('maintenance:cancelled', 'incident.maintenance_cancelled');

-- Puts an event into the outbox if an endpoint has chosen it. False when none has, or it is a repetition.
CREATE FUNCTION emit_webhook(p_org_id uuid, p_type text, p_data jsonb, p_once text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM public.webhook_endpoints e
         WHERE e.state = 'enabled' AND p_type = ANY (e.events)
           AND (e.org_id = p_org_id OR p_org_id = '00000000-0000-0000-0000-000000000000'))
    THEN
        RETURN false;
    END IF;
    INSERT INTO public.webhook_events (org_id, type, data, once) VALUES (p_org_id, p_type, p_data, p_once)
    ON CONFLICT (once) DO NOTHING;
    RETURN FOUND;
END
$$;
REVOKE EXECUTE ON FUNCTION emit_webhook(uuid, text, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION emit_webhook(uuid, text, jsonb, text) TO karta_admin;

CREATE FUNCTION emit_audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    found_type text;
BEGIN
    SELECT s.type INTO found_type FROM public.webhook_sources s WHERE s.audit_event = NEW.event;
    IF FOUND THEN
        PERFORM public.emit_webhook(NEW.org_id, found_type, jsonb_build_object(
            'subject', NEW.subject, 'details', NEW.details, 'seq', NEW.seq,
            'actor_kind', NEW.actor_kind, 'actor_id', NEW.actor_id));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_log_emit AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION emit_audit_row();

CREATE FUNCTION emit_checkpoint() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM public.emit_webhook(NEW.org_id, 'audit.checkpoint', jsonb_build_object(
        'seq', NEW.seq, 'hash', encode(NEW.hash, 'hex'), 'key_id', NEW.key_id,
        'signed_at', to_char(NEW.signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'signature', encode(NEW.signature, 'hex')));
    RETURN NULL;
END
$$;
-- Not of the system's own chain, which concerns no organization.
CREATE TRIGGER audit_checkpoints_emit AFTER INSERT ON audit_checkpoints FOR EACH ROW
    WHEN (NEW.kind = 'head' AND NEW.org_id <> '00000000-0000-0000-0000-000000000000')
    EXECUTE FUNCTION emit_checkpoint();

GRANT SELECT, INSERT, DELETE, UPDATE (url, description, events, ordered, state, reason, failing_since, failures, claimed_at)
    ON webhook_endpoints TO karta_admin;
GRANT SELECT, INSERT, DELETE, UPDATE (ends_at) ON webhook_secrets TO karta_admin;
GRANT SELECT, INSERT (org_id, type, data, once, endpoint_id), DELETE, UPDATE (body, spread_at)
    ON webhook_events TO karta_admin;
GRANT SELECT, INSERT (endpoint_id, event_seq), UPDATE (state, tries, due_at, claim, ended_at)
    ON webhook_deliveries TO karta_admin;
GRANT SELECT, INSERT ON webhook_attempts TO karta_admin;
