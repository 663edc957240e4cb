-- Customer keys, and the provider keys organizations bring.

CREATE TABLE api_keys (
    key_id         text PRIMARY KEY CHECK (key_id ~ '^[0-9A-Za-z]{12}$'),
    org_id         uuid NOT NULL REFERENCES organizations,
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    mode           text NOT NULL CHECK (mode IN ('live', 'test')),
    last_four      text NOT NULL CHECK (char_length(last_four) = 4),
    -- bcrypt, and its cost cannot be lowered behind the code's back.
    secret_digest  bytea NOT NULL CHECK (
        octet_length(secret_digest) = 60 AND convert_from(secret_digest, 'UTF8') ~ '^\$2b\$(1[2-9]|2[0-9])\$'),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    revoked_at     timestamptz,
    last_used_at   timestamptz,
    allowed_models text[] CHECK (cardinality(allowed_models) BETWEEN 1 AND 200),
    -- Whether the key may, under a hard budget, use what tells its cost only later or elsewhere.
    billed_elsewhere boolean NOT NULL DEFAULT false
);
CREATE INDEX api_keys_org ON api_keys (org_id, created_at, key_id);

GRANT SELECT (key_id, org_id, mode, secret_digest, expires_at, revoked_at, allowed_models, billed_elsewhere)
    ON api_keys TO karta_gateway;
-- The control plane never needs to read a digest.
GRANT SELECT (key_id, org_id, name, mode, last_four, created_at, expires_at, revoked_at, last_used_at, allowed_models,
              billed_elsewhere),
      INSERT (key_id, org_id, name, mode, last_four, secret_digest, expires_at, allowed_models, billed_elsewhere),
      UPDATE (name, expires_at, revoked_at, allowed_models, billed_elsewhere)
    ON api_keys TO karta_admin;

CREATE TABLE provider_credentials (
    credential_id      uuid PRIMARY KEY,
    org_id             uuid NOT NULL REFERENCES organizations,
    provider           text NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_]{0,31}$'),
    last_four          text NOT NULL CHECK (char_length(last_four) = 4),
    master_key_version integer NOT NULL CHECK (master_key_version > 0),
    wrapped_key        bytea CHECK (octet_length(wrapped_key) <= 256),
    ciphertext         bytea CHECK (octet_length(ciphertext) <= 8192),
    -- True while pages of this table may still hold bytes of material that was replaced or revoked.
    shred_due          boolean NOT NULL DEFAULT false,
    -- Counts how often this table's file was written anew: see shred_credentials.
    file_generation    integer NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    revoked_at         timestamptz,
    -- A live credential has its material, a revoked one has none.
    CONSTRAINT provider_credentials_material CHECK (
        CASE WHEN revoked_at IS NULL THEN wrapped_key IS NOT NULL AND ciphertext IS NOT NULL
             ELSE wrapped_key IS NULL AND ciphertext IS NULL END)
);
CREATE UNIQUE INDEX provider_credentials_live ON provider_credentials (org_id, provider) WHERE revoked_at IS NULL;
CREATE INDEX provider_credentials_org ON provider_credentials (org_id, created_at, credential_id);

GRANT SELECT (credential_id, org_id, provider, master_key_version, wrapped_key, ciphertext, revoked_at)
    ON provider_credentials TO karta_gateway;
-- The control plane writes material that it cannot read back.
GRANT SELECT (credential_id, org_id, provider, last_four, master_key_version, shred_due, created_at, revoked_at),
      INSERT (credential_id, org_id, provider, last_four, master_key_version, wrapped_key, ciphertext),
      UPDATE (last_four, master_key_version, wrapped_key, ciphertext, shred_due, revoked_at)
    ON provider_credentials TO karta_admin;

-- Makes the table's file forget. An UPDATE leaves the old row behind, and VACUUM frees its space without clearing the
-- bytes; so the (small) table is written anew and its old file emptied at commit. Needs the table to itself for a
-- moment; raises 55P03 when it does not get it within a second, and is then due again. True when it did something.
CREATE FUNCTION shred_credentials() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.provider_credentials WHERE shred_due) THEN
        RETURN false;
    END IF;
    LOCK TABLE public.provider_credentials IN ACCESS EXCLUSIVE MODE;
    UPDATE public.provider_credentials SET shred_due = false WHERE shred_due;
    -- An expression that is not the bare column forces the rewrite; only rows that live now are carried over.
    ALTER TABLE public.provider_credentials
        ALTER COLUMN file_generation SET DATA TYPE integer USING file_generation + 1;
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION shred_credentials() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shred_credentials() TO karta_admin;
