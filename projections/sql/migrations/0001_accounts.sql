-- The accounts schema is truth like the log: it can not be rebuilt, so it is backed up (with the master key) and never
-- dropped. Everything personal that is not a body lives here: names, password hashes, device labels, wrapped keys.

-- A row outlives its account (erased_at set, secrets gone), because names are never issued again.
CREATE TABLE accounts.accounts (
    user_id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    wrapped_key bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz
);

-- registered_at is set once the log holds the device's DeviceRegistered; no token is answered before.
CREATE TABLE accounts.devices (
    device_id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES accounts.accounts,
    label text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    registered_at timestamptz,
    removed_at timestamptz,
    last_seen_at timestamptz
);

-- One label is one device until it is removed.
CREATE UNIQUE INDEX devices_label ON accounts.devices (user_id, label) WHERE removed_at IS NULL;

-- A family is every refresh token that descends from one login.
CREATE TABLE accounts.refresh_families (
    family_id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES accounts.devices,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);

CREATE INDEX refresh_families_device ON accounts.refresh_families (device_id);

-- Only SHA-256 hashes. A predecessor shown again within the grace has several successors, each of them good.
CREATE TABLE accounts.refresh_tokens (
    token_hash bytea PRIMARY KEY,
    family_id uuid NOT NULL REFERENCES accounts.refresh_families ON DELETE CASCADE,
    predecessor bytea,
    issued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE INDEX refresh_tokens_family ON accounts.refresh_tokens (family_id);
CREATE INDEX refresh_tokens_predecessor ON accounts.refresh_tokens (predecessor) WHERE predecessor IS NOT NULL;
