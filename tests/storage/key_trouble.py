"""A database in which keys can be made up to a number, and what is then wrong."""

from __future__ import annotations

FAILS = "RAISE EXCEPTION 'there is a fault'"
LOSES_THE_LINE = "PERFORM pg_terminate_backend(pg_backend_pid())"


def trouble_from(number: int, trouble: str) -> str:
    """Statements for the owner: a transaction with which there are so many keys ends with this."""
    return f"""
        CREATE FUNCTION make_trouble() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF (SELECT count(*) FROM public.api_keys) >= {number} THEN
                {trouble};
            END IF;
            RETURN NULL;
        END
        $$;
        CREATE CONSTRAINT TRIGGER trouble AFTER INSERT ON api_keys
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION make_trouble();
    """
