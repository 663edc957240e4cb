-- Payments by Stripe: whom we know there, what was told and what was read.
--
-- Stripe's events come twice, late and in any order. So an event only names an object; the object is read from Stripe,
-- and what was read becomes the state here. Each reading has a number, taken before it began: a reading is put in only
-- where none with a higher number was. Since every change at Stripe is followed by an event, and so by a reading that
-- began after the change, the last one put in has all changes in it.

CREATE SEQUENCE stripe_readings;
GRANT USAGE ON SEQUENCE stripe_readings TO karta_admin;

CREATE TABLE stripe_customers (
    org_id      uuid PRIMARY KEY REFERENCES organizations,
    -- NULL until Stripe has made it.
    customer_id text UNIQUE CHECK (customer_id ~ '^cus_[0-9A-Za-z]{1,100}$'),
    -- Part of the key by which it is made once; the next one when Stripe has deleted a customer.
    generation  integer NOT NULL DEFAULT 1,
    tax_ids     jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(tax_ids) = 'array'),
    -- The plan that its subscriptions entitle to. The organization's own is changed only when this changes, so what
    -- staff set by hand stays until then.
    entitled_to text NOT NULL DEFAULT 'free' CHECK (entitled_to IN ('free', 'pro', 'enterprise')),
    reading     bigint NOT NULL DEFAULT 0
);

CREATE TABLE stripe_subscriptions (
    subscription_id text PRIMARY KEY CHECK (subscription_id ~ '^sub_[0-9A-Za-z]{1,100}$'),
    org_id          uuid NOT NULL REFERENCES organizations,
    -- Stripe's word for it.
    status          text NOT NULL CHECK (char_length(status) BETWEEN 1 AND 40),
    -- What its prices sell; NULL when none of them is a plan's.
    plan            text CHECK (plan IN ('pro', 'enterprise')),
    seat_item_id    text CHECK (seat_item_id ~ '^si_[0-9A-Za-z]{1,100}$'),
    seats           integer NOT NULL CHECK (seats >= 0),
    metered         boolean NOT NULL,
    started_at      timestamptz NOT NULL,
    period_end      timestamptz,
    ends_at         timestamptz,
    ended_at        timestamptz,
    reading         bigint NOT NULL,
    -- When the job that keeps its seats right may try again.
    seats_after     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stripe_subscriptions_org ON stripe_subscriptions (org_id);

CREATE TABLE stripe_invoices (
    invoice_id   text PRIMARY KEY CHECK (invoice_id ~ '^in_[0-9A-Za-z]{1,100}$'),
    org_id       uuid NOT NULL REFERENCES organizations,
    number       text CHECK (char_length(number) <= 100),
    status       text NOT NULL CHECK (char_length(status) BETWEEN 1 AND 40),
    currency     text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    -- In the currency's smallest unit, as Stripe counts.
    total        bigint NOT NULL,
    due          bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    -- What of it was for metered usage, once it is paid; that much of what was owed is owed no longer.
    usage_paid   bigint NOT NULL DEFAULT 0,
    page_url     text CHECK (page_url LIKE 'https://%' AND char_length(page_url) <= 2000),
    reading      bigint NOT NULL
);
CREATE INDEX stripe_invoices_org ON stripe_invoices (org_id, created_at DESC, invoice_id DESC);

-- Each visit to Stripe's payment page. The id is the key by which Stripe makes it once.
CREATE TABLE stripe_checkouts (
    checkout_id    uuid PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES organizations,
    purpose        text NOT NULL CHECK (purpose IN ('subscription', 'top_up')),
    amount_cents   integer CHECK (amount_cents > 0),
    session_id     text UNIQUE CHECK (session_id ~ '^cs_[0-9A-Za-z_]{1,200}$'),
    -- paying: the visit is over, the money not here yet (bank debits take days).
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paying', 'paid', 'expired')),
    -- What of it is in the ledger.
    paid_cents     bigint NOT NULL DEFAULT 0 CHECK (paid_cents >= 0),
    refunded_cents bigint NOT NULL DEFAULT 0 CHECK (refunded_cents >= 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    reading        bigint NOT NULL DEFAULT 0,
    CHECK ((purpose = 'top_up') = (amount_cents IS NOT NULL))
);
CREATE INDEX stripe_checkouts_open ON stripe_checkouts (created_at) WHERE state IN ('open', 'paying');
-- Two tabs are one purchase.
CREATE UNIQUE INDEX stripe_checkouts_subscribing ON stripe_checkouts (org_id)
 WHERE purpose = 'subscription' AND state = 'open';

-- Usage that credit does not cover, as it was reported to Stripe's meter: put here first, sent afterwards, once. Stripe
-- takes an identifier once a day at least, so what was tried longer ago, without an answer, is never sent again by itself.
CREATE TABLE meter_reports (
    org_id      uuid NOT NULL REFERENCES organizations,
    hour        timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    customer_id text NOT NULL,
    identifier  uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- In millionths of a dollar.
    value       bigint NOT NULL CHECK (value > 0),
    -- unsure: nobody knows whether it arrived. refused: Stripe does not take it.
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'unsure', 'refused')),
    tries       integer NOT NULL DEFAULT 0,
    tried_at    timestamptz,
    try_after   timestamptz NOT NULL DEFAULT now(),
    sent_at     timestamptz,
    problem     text CHECK (char_length(problem) <= 500),
    PRIMARY KEY (org_id, hour)
);
CREATE INDEX meter_reports_waiting ON meter_reports (try_after) WHERE state = 'waiting';
GRANT SELECT, INSERT (org_id, hour, customer_id, value),
      UPDATE (state, tries, tried_at, try_after, sent_at, problem) ON meter_reports TO karta_admin;

-- What Stripe told, before anything is done about it; of its content only what it names.
CREATE TABLE stripe_events (
    event_id    text PRIMARY KEY CHECK (event_id ~ '^[0-9A-Za-z_]{1,255}$'),
    kind        text NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 100),
    object_kind text NOT NULL CHECK (object_kind IN ('checkout', 'subscription', 'invoice', 'customer', 'charge',
                                                     'refund', 'dispute')),
    object_id   text NOT NULL CHECK (object_id ~ '^[0-9A-Za-z_]{1,255}$'),
    happened_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    -- dead: tried too often; staff look at it, and replay it.
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'dead')),
    tries       integer NOT NULL DEFAULT 0,
    try_after   timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    org_id      uuid,
    problem     text CHECK (char_length(problem) <= 500)
);
CREATE INDEX stripe_events_waiting ON stripe_events (try_after) WHERE state = 'waiting';
CREATE INDEX stripe_events_newest ON stripe_events (received_at DESC, event_id);

-- Members are told on every page: past_due, unpaid, incomplete.
ALTER TABLE organizations
    ADD COLUMN payment_state text CHECK (payment_state IN ('past_due', 'unpaid', 'incomplete'));
GRANT UPDATE (payment_state) ON organizations TO karta_admin;

GRANT SELECT, INSERT (org_id), UPDATE (customer_id, generation, tax_ids, entitled_to, reading) ON stripe_customers
    TO karta_admin;
GRANT SELECT, INSERT (subscription_id, org_id, status, plan, seat_item_id, seats, metered, started_at, period_end,
                      ends_at, ended_at, reading),
      UPDATE (status, plan, seat_item_id, seats, metered, started_at, period_end, ends_at, ended_at, reading,
              seats_after) ON stripe_subscriptions TO karta_admin;
GRANT SELECT, INSERT, UPDATE (number, status, total, due, usage_paid, page_url, reading) ON stripe_invoices TO karta_admin;
GRANT SELECT, INSERT (checkout_id, org_id, purpose, amount_cents),
      UPDATE (session_id, state, paid_cents, refunded_cents, reading), DELETE ON stripe_checkouts TO karta_admin;
GRANT SELECT, INSERT (event_id, kind, object_kind, object_id, happened_at),
      UPDATE (state, tries, try_after, done_at, org_id, problem), DELETE ON stripe_events TO karta_admin;
