-- How Karta is: samples of each part by the minute, sums by the day for ever, and incidents told in words.

-- One row a round: who writes it does the round, of all who would.
CREATE TABLE health_rounds (
    minute timestamptz PRIMARY KEY CHECK (minute = date_trunc('minute', minute, 'UTC'))
);

CREATE TABLE health_samples (
    component  text NOT NULL CHECK (component ~ '^[a-z0-9_-]{1,40}$'),
    minute     timestamptz NOT NULL CHECK (minute = date_trunc('minute', minute, 'UTC')),
    state      text NOT NULL CHECK (state IN ('up', 'degraded', 'down')),
    latency_ms integer CHECK (latency_ms >= 0),
    PRIMARY KEY (component, minute)
);
CREATE INDEX health_samples_minute ON health_samples (minute);

CREATE TABLE health_days (
    component text NOT NULL CHECK (component ~ '^[a-z0-9_-]{1,40}$'),
    day       date NOT NULL,
    -- Minutes of each state. What is missing of a day was not looked at, and counts as not up.
    up        integer NOT NULL DEFAULT 0,
    degraded  integer NOT NULL DEFAULT 0,
    down      integer NOT NULL DEFAULT 0,
    first_at  timestamptz NOT NULL,
    PRIMARY KEY (component, day)
);
CREATE INDEX health_days_day ON health_days (day);

-- An incident, or maintenance that was announced.
CREATE TABLE incidents (
    incident_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind        text NOT NULL CHECK (kind IN ('incident', 'maintenance')),
    title       text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
    components  text[] NOT NULL CHECK (cardinality(components) <= 50),
    -- Opened by the health job, which closes it as well.
    automatic   boolean NOT NULL DEFAULT false,
    starts_at   timestamptz NOT NULL DEFAULT now(),
    -- Of maintenance: when it is to end. Of an incident: when it was resolved.
    ends_at     timestamptz,
    cancelled   boolean NOT NULL DEFAULT false,
    CHECK (kind = 'incident' OR ends_at > starts_at)
);
CREATE INDEX incidents_newest ON incidents (starts_at DESC);
-- One automatic incident of a component at a time, however many jobs see its failure.
CREATE UNIQUE INDEX incidents_automatic ON incidents ((components[1]))
 WHERE automatic AND kind = 'incident' AND ends_at IS NULL;

-- What was told of it; nothing told is changed.
CREATE TABLE incident_updates (
    update_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents,
    told_at     timestamptz NOT NULL DEFAULT now(),
    state       text NOT NULL CHECK (state IN ('investigating', 'identified', 'monitoring', 'resolved', 'planned',
                                               'cancelled')),
    message     text NOT NULL CHECK (char_length(message) BETWEEN 1 AND 4000)
);
CREATE INDEX incident_updates_incident ON incident_updates (incident_id, update_id);

-- The kt_test_ key that the health job's own requests are made with, sealed.
CREATE TABLE health_key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    org_id   uuid NOT NULL,
    key_id   text NOT NULL,
    sealed   bytea NOT NULL
);

GRANT SELECT, INSERT, DELETE ON health_rounds, health_samples TO karta_admin;
GRANT SELECT, INSERT, UPDATE (up, degraded, down) ON health_days TO karta_admin;
GRANT SELECT, INSERT, UPDATE (ends_at, cancelled) ON incidents TO karta_admin;
GRANT SELECT, INSERT ON incident_updates TO karta_admin;
GRANT SELECT, INSERT, UPDATE (org_id, key_id, sealed) ON health_key TO karta_admin;
