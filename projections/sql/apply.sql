-- Statements of apply.py: each folds one kind of row of a batch, and may be run twice. Facts about messages count only where
-- the message is known, is the fact's recipient's, and was stored before the fact; the rest is ignored, and counted.

-- name: begin_partitions
-- Rows for partitions that have none yet.
INSERT INTO offsets (topic, partition, next_offset)
SELECT %(topic)s, given.partition, 0 FROM unnest(%(partitions)s) AS given(partition) WHERE live()
ON CONFLICT DO NOTHING;

-- name: starts
-- Where to go on, the last record that was folded, and the chain up to it.
SELECT partition, next_offset, last_event_id, last_at_ms, chain FROM offsets
WHERE live() AND topic = %(topic)s AND partition = ANY (%(partitions)s);

-- name: move_on
-- Take the partitions from where this projector started to where its batch ends. Touches fewer rows than asked where another
-- projector has been there. Locked in order, so that two projectors never wait for each other in a circle.
WITH locked AS (
    SELECT partition FROM offsets WHERE topic = %(topic)s AND partition = ANY (%(partitions)s) ORDER BY partition FOR UPDATE
)
UPDATE offsets SET next_offset = given.next_offset, last_event_id = given.event_id, last_at_ms = given.at_ms,
    chain = given.chain
FROM unnest(%(partitions)s, %(starts)s, %(ends)s, %(event_ids)s, %(at_ms)s, %(chained)s, %(chains)s)
     AS given(partition, started, next_offset, event_id, at_ms, chained, chain)
JOIN locked USING (partition)
WHERE offsets.topic = %(topic)s AND offsets.partition = given.partition AND offsets.next_offset = given.started
  AND offsets.chain IS NOT DISTINCT FROM given.chained;

-- name: announce
-- Tell those who wait; they hear it when the transaction commits. Nothing is committed where this is not the live schema: a
-- rebuild changes the pointer only while it holds the offsets, and this statement's snapshot is younger than our hold on ours.
SELECT pg_notify(%(channel)s, payload) FROM unnest(%(payloads)s) AS given(payload) WHERE live();

-- name: register
-- New devices. The first registration of an id counts.
INSERT INTO devices (device_id, account, registered_position, registered_at_ms)
SELECT * FROM unnest(%(device_ids)s, %(accounts)s, %(positions)s, %(at_ms)s)
ON CONFLICT DO NOTHING;

-- name: remove
-- A device goes: its view with it, and its live sessions end.
WITH gone AS (
    UPDATE devices SET removed_position = %(position)s, removed_at_ms = %(at_ms)s
    WHERE device_id = %(device)s AND account = %(account)s AND removed_position IS NULL AND registered_position < %(position)s
    RETURNING device_id
), freed AS (
    DELETE FROM owed USING gone WHERE owed.device_id = gone.device_id
)
INSERT INTO session_ends (session_id, position, account, device_id, reason, event_id, producer, at_ms)
SELECT session_id, %(position)s, sessions.account, sessions.device_id, 'device_removed', %(event_id)s, %(producer)s, %(at_ms)s
FROM gone JOIN sessions ON sessions.device_id = gone.device_id AND sessions.account = %(account)s
WHERE NOT EXISTS (SELECT FROM session_ends WHERE session_ends.session_id = sessions.session_id
                  AND session_ends.position > sessions.epoch)
ON CONFLICT DO NOTHING;

-- name: erase
-- An account goes, and what its devices have yet to acknowledge. `leave` takes the rest.
WITH noted AS (
    INSERT INTO erased (account, position, event_id, producer, at_ms)
    VALUES (%(account)s, %(position)s, %(event_id)s, %(producer)s, %(at_ms)s) ON CONFLICT DO NOTHING
)
DELETE FROM owed USING devices WHERE devices.account = %(account)s AND owed.device_id = devices.device_id;

-- name: leave
-- Some of the messages that wait for an erased account: their bodies go, and their senders have to be told.
WITH gone AS (
    DELETE FROM mailbox WHERE account = %(account)s AND position IN (
        SELECT position FROM mailbox WHERE account = %(account)s ORDER BY position LIMIT %(limit)s)
    RETURNING account, position, message_id, sender
)
INSERT INTO untold (account, position, message_id, sender) SELECT * FROM gone;

-- name: told
-- Erased messages whose senders are told by a fact at this position.
DELETE FROM untold USING unnest(%(message_ids)s) AS given(message_id) JOIN messages USING (message_id)
WHERE untold.account = %(account)s AND untold.account = messages.recipient AND untold.position = messages.position
  AND messages.position < %(position)s;

-- name: store
-- New messages, into the mailbox too, and who has written to whom; an id that is taken changes nothing. For an
-- account that is erased none waits: the sender has to be told. Answers how many were new, and how many of these came too late.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%(message_ids)s, %(recipients)s, %(senders)s, %(sender_devices)s, %(partitions)s, %(positions)s,
                         %(event_ids)s, %(producers)s, %(created_at_ms)s, %(stored_at_ms)s, %(digests)s, %(keyed)s, %(sealed)s)
        AS given(message_id, recipient, sender, sender_device, partition, position, event_id, producer, created_at_ms,
                 stored_at_ms, digest, keyed, sealed)
), kept AS (
    INSERT INTO messages (message_id, recipient, sender, sender_device, partition, position, event_id, producer,
                          created_at_ms, stored_at_ms, digest, keyed)
    SELECT message_id, recipient, sender, sender_device, partition, position, event_id, producer, created_at_ms,
           stored_at_ms, digest, keyed
    FROM given ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id, recipient, sender
), met AS (
    INSERT INTO contacts (account, sender) SELECT DISTINCT recipient, sender FROM kept ON CONFLICT DO NOTHING
), boxed AS (
    INSERT INTO mailbox (account, position, message_id, sender, stored_at_ms, sealed)
    SELECT given.recipient, position, message_id, given.sender, stored_at_ms, sealed
    FROM given JOIN kept USING (message_id)
    WHERE NOT EXISTS (SELECT FROM erased WHERE erased.account = given.recipient)
), missed AS (
    INSERT INTO untold (account, position, message_id, sender)
    SELECT given.recipient, position, message_id, given.sender FROM given JOIN kept USING (message_id)
    WHERE EXISTS (SELECT FROM erased WHERE erased.account = given.recipient)
    RETURNING message_id
)
SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM missed);

-- name: repeat
-- Records that stored a known id again.
INSERT INTO repeats (partition, position, message_id, event_id, producer, at_ms)
SELECT given.partition, given.position, given.message_id, given.event_id, given.producer, given.at_ms
FROM unnest(%(message_ids)s, %(partitions)s, %(positions)s, %(event_ids)s, %(producers)s, %(at_ms)s)
     AS given(message_id, partition, position, event_id, producer, at_ms)
JOIN messages ON messages.message_id = given.message_id
     AND (messages.partition, messages.position) <> (given.partition, given.position)
ON CONFLICT DO NOTHING;

-- name: open
-- Markers: a session's latest one is its epoch.
INSERT INTO sessions (session_id, account, device_id, gateway, push_partition, epoch)
SELECT * FROM unnest(%(session_ids)s, %(accounts)s, %(device_ids)s, %(gateways)s, %(push_partitions)s, %(epochs)s)
ON CONFLICT (session_id) DO UPDATE
SET device_id = excluded.device_id, gateway = excluded.gateway, push_partition = excluded.push_partition,
    epoch = excluded.epoch
WHERE sessions.account = excluded.account AND sessions.epoch < excluded.epoch;

-- name: end
-- Ends of sessions.
INSERT INTO session_ends (session_id, position, account, device_id, reason, event_id, producer, at_ms)
SELECT * FROM unnest(%(session_ids)s, %(positions)s, %(accounts)s, %(device_ids)s, %(reasons)s, %(event_ids)s, %(producers)s,
                     %(at_ms)s)
ON CONFLICT DO NOTHING;

-- name: decide
-- Decisions of the processor; late ones too, they are evidence.
INSERT INTO decisions (message_id, position, pending, session_id, session_ids, reason, policy, evidence, event_id,
                       causation_id, producer, at_ms)
SELECT given.message_id, given.position, given.pending, given.session_id, given.session_ids::uuid[], given.reason, given.policy,
       given.evidence::jsonb, given.event_id, given.causation_id, given.producer, given.at_ms
FROM unnest(%(message_ids)s, %(recipients)s, %(positions)s, %(pending)s, %(session_ids)s, %(sessions)s, %(reasons)s,
            %(policies)s, %(evidence)s, %(event_ids)s, %(causation_ids)s, %(producers)s, %(at_ms)s)
     AS given(message_id, recipient, position, pending, session_id, session_ids, reason, policy, evidence, event_id,
              causation_id, producer, at_ms)
JOIN messages ON messages.message_id = given.message_id AND messages.recipient = given.recipient
     AND messages.position < given.position
ON CONFLICT DO NOTHING;

-- name: acknowledge
-- Acknowledgements: noted; the message leaves the shared mailbox, and a copy stays for each other device that is there now;
-- what the device owed is settled. Answers how many counted. Of an account that is erased none does.
WITH acked AS MATERIALIZED (
    SELECT given.*, messages.position AS message_position
    FROM unnest(%(message_ids)s, %(device_ids)s, %(recipients)s, %(positions)s, %(vias)s, %(session_ids)s, %(event_ids)s,
                %(producers)s, %(at_ms)s)
         AS given(message_id, device_id, recipient, position, via, session_id, event_id, producer, at_ms)
    JOIN messages ON messages.message_id = given.message_id AND messages.recipient = given.recipient
         AND messages.position < given.position
    WHERE NOT EXISTS (SELECT FROM erased WHERE erased.account = given.recipient)
), noted AS (
    INSERT INTO deliveries (message_id, device_id, position, via, session_id, event_id, producer, at_ms)
    SELECT message_id, device_id, position, via, session_id, event_id, producer, at_ms FROM acked
    ON CONFLICT DO NOTHING
), freed AS (
    DELETE FROM mailbox USING acked
    WHERE mailbox.account = acked.recipient AND mailbox.position = acked.message_position
    RETURNING mailbox.*
), settled AS (
    DELETE FROM owed USING acked
    WHERE owed.device_id = acked.device_id AND owed.position = acked.message_position
), left_over AS (
    INSERT INTO owed (device_id, position, message_id, sender, stored_at_ms, sealed)
    SELECT devices.device_id, freed.position, freed.message_id, freed.sender, freed.stored_at_ms, freed.sealed
    FROM freed JOIN devices ON devices.account = freed.account AND devices.removed_position IS NULL
    -- not NOT EXISTS: of a CTE the planner makes that a nested loop, quadratic in the batch; this is hashed
    WHERE (devices.device_id, freed.message_id) NOT IN (SELECT acked.device_id, acked.message_id FROM acked)
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM acked;

-- name: read
-- The first reading of each message.
INSERT INTO reads (message_id, device_id, position, via, session_id, event_id, producer, at_ms)
SELECT given.message_id, given.device_id, given.position, given.via, given.session_id, given.event_id, given.producer,
       given.at_ms
FROM unnest(%(message_ids)s, %(device_ids)s, %(recipients)s, %(positions)s, %(vias)s, %(session_ids)s, %(event_ids)s,
            %(producers)s, %(at_ms)s)
     AS given(message_id, device_id, recipient, position, via, session_id, event_id, producer, at_ms)
JOIN messages ON messages.message_id = given.message_id AND messages.recipient = given.recipient
     AND messages.position < given.position
WHERE NOT EXISTS (SELECT FROM erased WHERE erased.account = given.recipient)
ON CONFLICT DO NOTHING;

-- name: tell
-- Receipts that tell something after the earlier ones of their message: a second one counts only as Read after Delivered.
INSERT INTO receipts (account, position, message_id, recipient, outcome, at_ms)
SELECT given.account, given.position, given.message_id, given.recipient, given.outcome, given.at_ms
FROM unnest(%(accounts)s, %(positions)s, %(message_ids)s, %(recipients)s, %(outcomes)s, %(at_ms)s)
     AS given(account, position, message_id, recipient, outcome, at_ms)
WHERE NOT EXISTS (
    SELECT FROM receipts AS earlier
    WHERE earlier.message_id = given.message_id AND earlier.account = given.account AND earlier.position < given.position
      AND NOT (earlier.outcome = 'Delivered' AND given.outcome = 'Read'))
ON CONFLICT DO NOTHING;

-- name: waiting
-- How many messages wait in mailboxes, as PostgreSQL's statistics have it: an estimate that costs nothing.
SELECT coalesce(pg_stat_get_live_tuples('mailbox'::regclass), 0) + coalesce(pg_stat_get_live_tuples('owed'::regclass), 0)
WHERE live();
