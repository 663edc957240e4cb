-- What the public pages take in: subscriptions to changes, reports of abuse, and browsers' reports of what broke a policy.

CREATE TABLE subscriptions (
    -- Names the subscription in the link that ends it, which is in every mail of it.
    subscription_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    topic           text NOT NULL CHECK (topic IN ('sub_processors')),
    email           text NOT NULL CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    -- SHA-256 of the token that confirms it; NULL once it is confirmed.
    token_digest    bytea UNIQUE CHECK (octet_length(token_digest) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    confirmed_at    timestamptz,
    UNIQUE (topic, email),
    CHECK ((token_digest IS NULL) = (confirmed_at IS NOT NULL))
);
CREATE INDEX subscriptions_unconfirmed ON subscriptions (created_at) WHERE confirmed_at IS NULL;
GRANT SELECT, INSERT, DELETE, UPDATE (token_digest, created_at, confirmed_at) ON subscriptions TO karta_admin;

-- Which contents have been told to subscribers: each once, whatever the number of processes.
CREATE TABLE announcements (
    topic        text NOT NULL,
    digest       bytea NOT NULL CHECK (octet_length(digest) = 32),
    announced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, digest)
);
GRANT SELECT, INSERT ON announcements TO karta_admin;

CREATE TABLE abuse_reports (
    reference   text PRIMARY KEY CHECK (reference ~ '^AB-[0-9A-Z]{10}$'),
    received_at timestamptz NOT NULL DEFAULT now(),
    category    text NOT NULL CHECK (category IN ('content', 'security', 'spam', 'other')),
    report      text NOT NULL CHECK (char_length(report) BETWEEN 1 AND 3000),
    email       text CHECK (char_length(email) <= 254),
    address     text CHECK (char_length(address) <= 64),
    closed_at   timestamptz,
    note        text CHECK (char_length(note) <= 2000)
);
CREATE INDEX abuse_reports_newest ON abuse_reports (received_at DESC);
GRANT SELECT, INSERT, UPDATE (closed_at, note) ON abuse_reports TO karta_admin;

-- One row for each kind of violation, counted: what strangers send cannot make it long (storage/csp_violations.py).
CREATE TABLE csp_violations (
    digest    bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    directive text NOT NULL CHECK (char_length(directive) <= 200),
    blocked   text NOT NULL CHECK (char_length(blocked) <= 200),
    source    text NOT NULL CHECK (char_length(source) <= 200),
    page      text NOT NULL CHECK (char_length(page) <= 200),
    first_at  timestamptz NOT NULL DEFAULT now(),
    last_at   timestamptz NOT NULL DEFAULT now(),
    count     bigint NOT NULL DEFAULT 1
);
CREATE INDEX csp_violations_oldest ON csp_violations (last_at);
GRANT SELECT, INSERT, UPDATE (last_at, count), DELETE ON csp_violations TO karta_admin;
