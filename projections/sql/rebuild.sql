-- Statements of refold.py, rebuild.py and replace.py. They run on connections of their own, whose search_path is one place, whatever
-- the pointer says: none of them asks live().

-- name: look_into
-- From here to the end of the transaction bare names are of this schema.
SELECT set_config('search_path', %(place)s, true);

-- name: stay_in
-- From here on bare names are of this schema, and commits are not waited for: what a crash takes back is folded again.
SELECT set_config('search_path', %(place)s, false), set_config('synchronous_commit', 'off', false);

-- name: begin_partitions
-- Rows for partitions that have none yet.
INSERT INTO offsets (topic, partition, next_offset)
SELECT %(topic)s, given.partition, 0 FROM unnest(%(partitions)s) AS given(partition)
ON CONFLICT DO NOTHING;

-- name: standing
-- Where each partition of a topic stands.
SELECT partition, next_offset, last_event_id, last_at_ms, chain FROM offsets
WHERE topic = %(topic)s AND partition = ANY (%(partitions)s);

-- name: offsets
-- How far each partition of each topic has been folded here.
SELECT topic, partition, next_offset FROM offsets;

-- name: alone
-- Held by the connection that rebuilds, so that there is one.
SELECT pg_try_advisory_lock(%(key)s);

-- name: in_turn
-- Held to the end of the transaction: nobody migrates meanwhile.
SELECT pg_advisory_xact_lock(%(key)s);

-- name: pointer
-- Which place is live, whether the other one is being filled, and whether it exists. Held to the end of the transaction.
SELECT live, building, to_regnamespace(CASE live WHEN %(first)s THEN %(second)s ELSE %(first)s END) IS NOT NULL
FROM pointer.projection FOR UPDATE;

-- name: building
-- The other place is being filled, or no longer.
UPDATE pointer.projection SET building = %(building)s;

-- name: patience
-- A lock that is not given within this time is an error.
SELECT set_config('lock_timeout', %(patience)s, true);

-- name: hold
-- Holds every offset row, also those that are not there yet: who folds waits, who reads does not.
LOCK TABLE offsets IN EXCLUSIVE MODE;

-- name: swap
-- The one row that everybody reads.
UPDATE pointer.projection SET live = %(place)s, building = false WHERE live = %(before)s AND building;

-- name: announce
-- Tell those who wait that there may be more than they know.
SELECT pg_notify(%(channel)s, payload) FROM unnest(%(payloads)s) AS given(payload);

-- name: columns
-- The tables of a place that are a fold of the log, and their columns.
SELECT relname::text, array_agg(attname::text ORDER BY attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = %(place)s::regnamespace AND relkind = 'r' AND relname NOT IN ('migrations', 'offsets')
GROUP BY relname ORDER BY relname;
