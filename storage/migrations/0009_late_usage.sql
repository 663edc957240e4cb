-- Work that was paid for earlier and is learnt of when somebody looks: a batch's results, a background response.
--
-- Whoever looks again gets the same id at another time, so the key of `usage`, which begins with the time, does not know
-- it again. This table does. It is kept as long as providers keep results, which may be for ever.

CREATE TABLE late_usage (
    request_id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL
);

GRANT INSERT, SELECT (request_id, started_at) ON late_usage TO karta_gateway;
