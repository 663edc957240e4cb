-- Organizations whose answers say, in `server-timing`, how long each stage took.

ALTER TABLE organizations
    ADD COLUMN server_timing boolean NOT NULL DEFAULT false;
GRANT SELECT (server_timing) ON organizations TO karta_gateway;
GRANT UPDATE (server_timing) ON organizations TO karta_admin;

CREATE TRIGGER organizations_timing_changed AFTER UPDATE OF server_timing ON organizations FOR EACH ROW
    WHEN (OLD.server_timing IS DISTINCT FROM NEW.server_timing)
    EXECUTE FUNCTION notify_change();
