-- The sum of all migrations, to read; nobody runs it (tests/integration/test_migrations.py compares the catalogues).

CREATE SCHEMA accounts;
SET search_path = accounts;

CREATE TABLE migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The accounts schema is truth like the log: it can not be rebuilt, so it is backed up (with the master key) and never
-- dropped. Everything personal that is not a body lives here: names, password hashes, device labels, wrapped keys.

-- A row outlives its account (erased_at set, secrets gone), because names are never issued again. An erased account is finished
-- once erasure_recorded_at says that the log holds its AccountErased. An account whose logins an outside OpenID provider keeps has
-- no password, but the SHA-256 of issuer and subject; an erased one keeps that, so that the same subject does not get a new one.
CREATE TABLE accounts.accounts (
    user_id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    password_hash text,
    wrapped_key bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz,
    erasure_recorded_at timestamptz,
    subject bytea UNIQUE
);
CREATE INDEX accounts_erased ON accounts.accounts (erased_at) WHERE erased_at IS NOT NULL;
CREATE INDEX accounts_unfinished ON accounts.accounts (erased_at) WHERE erased_at IS NOT NULL AND erasure_recorded_at IS NULL;

-- registered_at is set once the log holds the device's DeviceRegistered; no token is answered before. A removed device is
-- finished once removal_recorded_at says that the log holds its DeviceRemoved. An access token carries the generation that its
-- device had when it was issued; revoking raises it, at revoked_at, and so ends every token from before, exactly and without
-- a clock. Outside tokens carry none: token_issued_at is when the newest one that the device came with was issued, ended_until
-- up to which of these times they have ended (the provider's clock, seconds).
CREATE TABLE accounts.devices (
    device_id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES accounts.accounts,
    label text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    registered_at timestamptz,
    removed_at timestamptz,
    last_seen_at timestamptz,
    generation integer NOT NULL DEFAULT 0,
    revoked_at timestamptz,
    removal_recorded_at timestamptz,
    token_issued_at bigint,
    ended_until bigint
);

-- One label is one device until it is removed.
CREATE UNIQUE INDEX devices_label ON accounts.devices (user_id, label) WHERE removed_at IS NULL;
CREATE INDEX devices_user ON accounts.devices (user_id);
CREATE INDEX devices_revoked ON accounts.devices (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX devices_unfinished ON accounts.devices (user_id) WHERE removed_at IS NOT NULL AND removal_recorded_at IS NULL;

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

CREATE SCHEMA pointer;
SET search_path = pointer;

CREATE TABLE migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Which of the two places (projections.pointer) holds the projection that everybody reads. A rebuild fills the other one and
-- changes this row; `building` says that the other one is a rebuild that has not come to its end.
CREATE TABLE projection (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    live text NOT NULL CHECK (live IN ('projection', 'projection_2')),
    building boolean NOT NULL DEFAULT false
);
INSERT INTO projection (live) VALUES ('projection');

CREATE SCHEMA projection;
SET search_path = projection;

CREATE TABLE migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The projection is a fold of restante.lifecycle and nothing else: drop the schema, migrate, start the projector, and it is
-- the same again. Positions are offsets in the recipient's partition. Times are the broker's append times in milliseconds.
-- Tables only grow, row by row, except mailbox and owed, which shrink with every acknowledgement.

-- How far each partition of each topic has been folded, and the last record that was: it tells a replaced topic. `chain` is the
-- chain of hashes (schemas.chain) up to it; NULL where the rows are older than the column.
CREATE TABLE offsets (
    topic text NOT NULL,
    partition smallint NOT NULL,
    next_offset bigint NOT NULL,
    last_event_id uuid,
    last_at_ms bigint,
    chain bytea,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- The first MessageStored of each id. No body: that lives in mailbox and owed, and leaves with the last acknowledgement.
CREATE TABLE messages (
    message_id uuid PRIMARY KEY,
    recipient uuid NOT NULL,
    sender uuid NOT NULL,
    sender_device uuid NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    created_at_ms bigint NOT NULL,
    stored_at_ms bigint NOT NULL,
    digest bytea NOT NULL,
    keyed boolean NOT NULL
);

-- Later MessageStored records of a known id: rejected, and counted.
CREATE TABLE repeats (
    partition smallint NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (partition, position)
);
CREATE INDEX repeats_message ON repeats (message_id);

-- What no device of the account has acknowledged. Sealed bodies do not compress, so nobody tries.
CREATE TABLE mailbox (
    account uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    sender uuid NOT NULL,
    stored_at_ms bigint NOT NULL,
    sealed bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (account, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.1);

-- What another device has acknowledged first and this one, registered by then, has not.
CREATE TABLE owed (
    device_id uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    sender uuid NOT NULL,
    stored_at_ms bigint NOT NULL,
    sealed bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (device_id, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE TABLE devices (
    device_id uuid PRIMARY KEY,
    account uuid NOT NULL,
    registered_position bigint NOT NULL,
    registered_at_ms bigint NOT NULL,
    removed_position bigint,
    removed_at_ms bigint
);
CREATE INDEX devices_account ON devices (account);

-- Live and past sessions; epoch is the position of the latest marker. Live: no end after the epoch.
CREATE TABLE sessions (
    session_id uuid PRIMARY KEY,
    account uuid NOT NULL,
    device_id uuid NOT NULL,
    gateway text NOT NULL,
    push_partition integer NOT NULL,
    epoch bigint NOT NULL
);
-- A device's latest session is the one with the latest marker.
CREATE INDEX sessions_device ON sessions (device_id, epoch);

-- Records that ended a session: SessionClosed, or DeviceRemoved for each session that the device had.
CREATE TABLE session_ends (
    session_id uuid NOT NULL,
    position bigint NOT NULL,
    account uuid NOT NULL,
    device_id uuid NOT NULL,
    reason text NOT NULL,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (session_id, position)
);

-- What the processor decided: DeliveryAttempted (pending false) and PendingSync (pending true), with the evidence it saw.
CREATE TABLE decisions (
    message_id uuid NOT NULL,
    position bigint NOT NULL,
    pending boolean NOT NULL,
    session_id uuid,
    session_ids uuid[],
    reason text,
    policy text NOT NULL,
    evidence jsonb,
    event_id uuid NOT NULL,
    causation_id uuid,
    producer text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (message_id, position)
);

-- The first acknowledgement of each device.
CREATE TABLE deliveries (
    message_id uuid NOT NULL,
    device_id uuid NOT NULL,
    position bigint NOT NULL,
    via text NOT NULL,
    session_id uuid,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (message_id, device_id)
);

-- The first MessagesRead of each message.
CREATE TABLE reads (
    message_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    position bigint NOT NULL,
    via text NOT NULL,
    session_id uuid,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    at_ms bigint NOT NULL
);

CREATE TABLE erased (
    account uuid PRIMARY KEY,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    producer text NOT NULL,
    at_ms bigint NOT NULL
);

-- Messages that ended with their recipient's account and whose senders have yet to be told: from AccountErased (or, for one
-- that came after it, from its MessageStored) to MessagesErased.
CREATE TABLE untold (
    account uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    sender uuid NOT NULL,
    PRIMARY KEY (account, position)
);

-- What senders are told: a fold of restante.receipts. Positions are offsets in the sender's partition of that topic; `at_ms` is
-- when the recipient's fact was appended. A message has one row, or Delivered and then Read. The account is part of the second
-- key so that no row depends on another partition's, whatever a writer puts there.
CREATE TABLE receipts (
    account uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    recipient uuid NOT NULL,
    outcome text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (account, position),
    UNIQUE (message_id, outcome, account)
);

-- Who has written to an account: what decides who may see whether it is there.
CREATE TABLE contacts (
    account uuid NOT NULL,
    sender uuid NOT NULL,
    PRIMARY KEY (account, sender)
);

-- True, or an error (RS002) where the asking statement looks into a schema that is not the live projection in its snapshot.
CREATE FUNCTION live() RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT live FROM pointer.projection) IS DISTINCT FROM current_schema()::text THEN
        RAISE EXCEPTION 'schema % is not the live projection', current_schema() USING ERRCODE = 'RS002';
    END IF;
    RETURN true;
END
$$;

-- True, or an error: RS002 as above, RS001 where the snapshot of the asking statement has not reached these offsets. It raises
-- because a false would turn an answer that is too early into an answer that is too short.
CREATE FUNCTION reached(asked_topic text, asked_partitions smallint[], ends bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    here boolean;
    missed smallint;
BEGIN
    IF cardinality(asked_partitions) = 0 THEN
        RETURN live();
    END IF;
    SELECT live = current_schema()::text, (
        SELECT asked.partition
        FROM unnest(asked_partitions, ends) AS asked(partition, least_offset)
        LEFT JOIN offsets ON offsets.topic = asked_topic AND offsets.partition = asked.partition
        WHERE coalesce(offsets.next_offset, 0) < asked.least_offset
        LIMIT 1)
    INTO here, missed FROM pointer.projection;
    IF here IS NOT TRUE THEN
        RAISE EXCEPTION 'schema % is not the live projection', current_schema() USING ERRCODE = 'RS002';
    END IF;
    IF missed IS NOT NULL THEN
        RAISE EXCEPTION 'partition % has not been folded that far', missed USING ERRCODE = 'RS001';
    END IF;
    RETURN true;
END
$$;

-- Whether a DeliveryAttempted came to nothing: each of its sessions has ended since the message was stored (an end may overtake
-- the decision on its way into the log), or a PendingSync says so for it.
CREATE FUNCTION attempt_failed(attempt decisions, stored bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT cardinality(attempt.session_ids) > 0 AND NOT EXISTS (
        SELECT FROM unnest(attempt.session_ids) AS asked(session_id)
        WHERE NOT EXISTS (
            SELECT FROM session_ends
            WHERE session_ends.session_id = asked.session_id AND session_ends.position > stored)
        AND NOT EXISTS (
            SELECT FROM decisions
            WHERE decisions.message_id = attempt.message_id AND decisions.pending
              AND decisions.session_id = asked.session_id AND decisions.position > attempt.position))
$$;

-- What became of a device's latest session: it is online, or ended then. No row where there never was one.
CREATE FUNCTION latest_session(device uuid) RETURNS TABLE (online boolean, ended_at_ms bigint)
LANGUAGE sql STABLE AS $$
    SELECT first_end.at_ms IS NULL, first_end.at_ms
    FROM (SELECT session_id, epoch FROM sessions WHERE sessions.device_id = device ORDER BY epoch DESC LIMIT 1) AS latest
    LEFT JOIN LATERAL (
        SELECT session_ends.at_ms FROM session_ends
        WHERE session_ends.session_id = latest.session_id AND session_ends.position > latest.epoch
        ORDER BY session_ends.position LIMIT 1
    ) AS first_end ON true
$$;
