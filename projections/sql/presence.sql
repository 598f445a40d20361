-- Statements of presence.py. Each begins with reached(...), which raises where its snapshot is too early; in a CASE where the
-- planner would otherwise be free to look at the rest first. A device is there while its latest session has no end after its
-- latest marker: an older session of the same device has been replaced, or is about to be told so. `reader`: see reads.sql.

-- name: devices
-- What each of an account's devices has not acknowledged (counted up to the limit), and what became of its latest session.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT found.* FROM reader CROSS JOIN LATERAL (
    SELECT given.device_id, latest.online, latest.ended_at_ms,
           least(%(limit)s, shared.held + (
               SELECT count(*) FROM (SELECT FROM owed WHERE owed.device_id = given.device_id LIMIT %(limit)s) AS own)) AS pending
    FROM unnest(%(devices)s) AS given(device_id)
    CROSS JOIN (
        SELECT count(*) AS held FROM (SELECT FROM mailbox WHERE account = reader.account LIMIT %(limit)s) AS unacknowledged
    ) AS shared
    LEFT JOIN LATERAL latest_session(given.device_id) AS latest ON true
    WHERE reached(%(topic)s, %(partitions)s, %(ends)s)
    OFFSET 0
) AS found;

-- name: presence
-- Whether an account is there and when it was last, for one with whom it has exchanged messages; else no row.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT found.* FROM reader CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(latest.online), false) AS online,
           greatest(max(latest.ended_at_ms), floor(max(extract(epoch FROM devices.last_seen_at)) * 1000)::bigint)
               AS last_seen_at_ms
    FROM accounts.accounts AS other LEFT JOIN accounts.devices USING (user_id)
    LEFT JOIN LATERAL latest_session(devices.device_id) AS latest ON true
    WHERE other.name = %(name)s AND other.erased_at IS NULL
      AND CASE WHEN reached(%(topic)s, %(partitions)s, %(ends)s) THEN
          EXISTS (SELECT FROM contacts WHERE contacts.account = reader.account AND sender = other.user_id)
          AND EXISTS (SELECT FROM contacts WHERE contacts.account = other.user_id AND sender = reader.account)
      END
    GROUP BY user_id
    OFFSET 0
) AS found;
