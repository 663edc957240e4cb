-- A deleted webhook endpoint is hidden at once, and the rows of its log, which may be very many, go in batches.

ALTER TABLE webhook_endpoints ADD COLUMN deleted_at timestamptz;
CREATE INDEX webhook_endpoints_deleted ON webhook_endpoints (deleted_at) WHERE deleted_at IS NOT NULL;
GRANT UPDATE (deleted_at) ON webhook_endpoints TO karta_admin;
GRANT DELETE ON webhook_deliveries TO karta_admin;
