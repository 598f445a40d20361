-- Statements of reads.py. Each that must be complete begins with reached(...), which raises where its snapshot is too early or its
-- schema not the live one; the others with live(), which raises where the schema is not; those that only run in a snapshot after
-- one of them need neither.
--
-- `reader` says whose rows the statement may see: row-level security (projections/rights.py) hides all others from the API's
-- database role. It holds until the statement or its transaction ends. Whatever is looked up takes the account from `reader`
-- in a LATERAL that the planner cannot dissolve (LIMIT, OFFSET 0), and so comes after it.

-- name: page
-- One page of a device's mailbox: two range scans by key, merged. `rank` and `total` cut the page at the limit and at the
-- bytes (one message at least); `found` tells whether there is more. `decided` is what the decisions of a message that no
-- device has acknowledged come to: 2 attempted, 3 waits for the next sync (see evolve: the first attempt counts, and it came
-- to nothing once each of its sessions has ended or given up).
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account),
merged AS (
    SELECT found.* FROM reader CROSS JOIN LATERAL (
        (SELECT position, message_id, sender, stored_at_ms, sealed, false AS acknowledged
         FROM mailbox WHERE account = reader.account AND position > %(after)s ORDER BY position LIMIT %(limit)s + 1)
        UNION ALL
        (SELECT position, message_id, sender, stored_at_ms, sealed, true
         FROM owed WHERE device_id = %(device)s AND position > %(after)s ORDER BY position LIMIT %(limit)s + 1)
        ORDER BY position LIMIT %(limit)s + 1
    ) AS found
), counted AS (
    SELECT merged.*,
           row_number() OVER (ORDER BY position) AS rank,
           sum(octet_length(sealed)) OVER (ORDER BY position) AS total,
           count(*) OVER () AS found
    FROM merged
)
SELECT counted.position, counted.message_id, counted.sender, accounts.name AS sender_name, counted.sealed,
       counted.stored_at_ms, counted.found,
       CASE WHEN NOT counted.acknowledged THEN coalesce(judged.decided, 1)
            WHEN EXISTS (SELECT FROM reads WHERE reads.message_id = counted.message_id) THEN 5
            ELSE 4 END AS rank_of_status
FROM counted
LEFT JOIN accounts.accounts ON accounts.user_id = counted.sender AND accounts.erased_at IS NULL
LEFT JOIN LATERAL (
    SELECT max(CASE WHEN decisions.pending THEN CASE WHEN decisions.session_id IS NULL THEN 3 END
                    WHEN attempt_failed(decisions, counted.position) THEN 3
                    ELSE 2 END) AS decided
    FROM decisions
    WHERE NOT counted.acknowledged AND decisions.message_id = counted.message_id
) AS judged ON true
WHERE reached(%(topic)s, %(partitions)s, %(ends)s)
  AND (counted.rank = 1 OR (counted.rank <= %(limit)s AND counted.total <= %(max_bytes)s))
ORDER BY counted.position;

-- name: pending
-- How many messages a device has not acknowledged, exact to the limit.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT least(%(limit)s, found.held) FROM reader CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM (SELECT FROM mailbox WHERE account = reader.account LIMIT %(limit)s) AS shared)
         + (SELECT count(*) FROM (SELECT FROM owed WHERE device_id = %(device)s AND reader.account IS NOT NULL
                                  LIMIT %(limit)s) AS own) AS held
) AS found
WHERE live();

-- name: outstanding
-- Which of these messages are the user's, and what a device (and any device) has done with them.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT messages.message_id, messages.position, messages.sender,
       EXISTS (SELECT FROM deliveries WHERE deliveries.message_id = messages.message_id
               AND deliveries.device_id = %(device)s) AS delivered_to_device,
       EXISTS (SELECT FROM reads WHERE reads.message_id = messages.message_id) AS read
FROM reader CROSS JOIN LATERAL (
    SELECT * FROM messages WHERE message_id = ANY (%(ids)s) AND recipient = reader.account OFFSET 0
) AS messages
WHERE reached(%(topic)s, %(partitions)s, %(ends)s);

-- name: up_to
-- What a device has not acknowledged after one position and up to another, oldest first.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT found.* FROM reader CROSS JOIN LATERAL (
    (SELECT message_id, position, sender FROM mailbox
     WHERE account = reader.account AND position > %(after)s AND position <= %(position)s ORDER BY position LIMIT %(limit)s)
    UNION ALL
    (SELECT message_id, position, sender FROM owed
     WHERE device_id = %(device)s AND position > %(after)s AND position <= %(position)s ORDER BY position LIMIT %(limit)s)
    ORDER BY position LIMIT %(limit)s
) AS found
WHERE reached(%(topic)s, %(partitions)s, %(ends)s)
ORDER BY found.position;

-- name: stragglers
-- Which of these devices have a message above their position that was stored before a time. Both branches go by key; the oldest
-- row above the position decides, since positions and times rise together.
SELECT asked.device_id
FROM unnest(%(users)s, %(devices)s, %(positions)s) AS asked(user_id, device_id, after)
CROSS JOIN LATERAL (SELECT set_config('restante.reader', asked.user_id::text, true)::uuid AS account) AS reader
WHERE live() AND (
   (SELECT stored_at_ms FROM mailbox
    WHERE mailbox.account = reader.account AND mailbox.position > asked.after
    ORDER BY mailbox.position LIMIT 1) < %(stored_before)s
   OR (SELECT stored_at_ms FROM owed
       WHERE owed.device_id = asked.device_id AND owed.position > asked.after AND reader.account IS NOT NULL
       ORDER BY owed.position LIMIT 1) < %(stored_before)s);

-- name: receipts
-- What a sender is told, in the order of the receipts topic.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT receipts.position, receipts.message_id, accounts.name AS recipient_name, receipts.outcome, receipts.at_ms
FROM reader CROSS JOIN LATERAL (
    SELECT * FROM receipts WHERE account = reader.account AND position > %(after)s ORDER BY position LIMIT %(limit)s
) AS receipts
LEFT JOIN accounts.accounts ON accounts.user_id = receipts.recipient AND accounts.erased_at IS NULL
WHERE reached(%(topic)s, %(partitions)s, %(ends)s)
ORDER BY receipts.position;

-- name: stored
-- What is known of an id that its sender has taken: enough to answer a repeated idempotency key.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT messages.* FROM reader CROSS JOIN LATERAL (
    SELECT message_id, recipient, sender, digest, partition, position, stored_at_ms
    FROM messages WHERE message_id = ANY (%(ids)s) AND sender = reader.account OFFSET 0
) AS messages
WHERE reached(%(topic)s, %(partitions)s, %(ends)s);

-- name: messages
-- The records that stored those of these messages that the user sent or got, with the names of both sides.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT messages.message_id, recipient, recipients.name AS recipient_name, sender, senders.name AS sender_name, sender_device,
       partition, messages.position, event_id, producer, messages.created_at_ms, stored_at_ms, keyed
FROM reader CROSS JOIN LATERAL (
    SELECT * FROM messages WHERE message_id = ANY (%(ids)s) AND reader.account IN (recipient, sender) OFFSET 0
) AS messages
LEFT JOIN accounts.accounts AS recipients ON recipients.user_id = recipient AND recipients.erased_at IS NULL
LEFT JOIN accounts.accounts AS senders ON senders.user_id = sender AND senders.erased_at IS NULL
WHERE reached(%(topic)s, %(partitions)s, %(ends)s);

-- name: decisions
-- What the processor decided on these messages.
SELECT message_id, position, pending, session_id, reason, policy, evidence, event_id, causation_id, producer, at_ms
FROM decisions WHERE message_id = ANY (%(ids)s);

-- name: ends
-- The ends of the sessions that these messages were pushed to.
SELECT DISTINCT ON (decisions.message_id, session_ends.session_id, session_ends.position)
       decisions.message_id, session_ends.position, session_ends.session_id, session_ends.device_id, session_ends.reason,
       session_ends.event_id, session_ends.producer, session_ends.at_ms
FROM decisions
JOIN messages USING (message_id)
JOIN session_ends ON session_ends.session_id = ANY (decisions.session_ids)
     AND session_ends.account = messages.recipient AND session_ends.position > messages.position
WHERE decisions.message_id = ANY (%(ids)s) AND NOT decisions.pending;

-- name: deliveries
-- Each device's first acknowledgement of these messages.
SELECT message_id, device_id, position, via, session_id, event_id, producer, at_ms
FROM deliveries WHERE message_id = ANY (%(ids)s);

-- name: readings
-- The records that made these messages Read.
SELECT message_id, device_id, position, via, session_id, event_id, producer, at_ms
FROM reads WHERE message_id = ANY (%(ids)s);

-- name: erasures
-- The erasures of the recipients of these messages.
SELECT messages.message_id, erased.position, erased.event_id, erased.producer, erased.at_ms
FROM messages JOIN erased ON erased.account = messages.recipient WHERE messages.message_id = ANY (%(ids)s);

-- name: repeats
-- Later records that stored these messages again, and were rejected.
SELECT message_id, position, event_id, producer, at_ms FROM repeats WHERE message_id = ANY (%(ids)s);

-- name: offsets
-- How far each partition has been folded.
SELECT partition, next_offset FROM offsets WHERE live() AND topic = %(topic)s;

-- name: all_offsets
-- How far each partition of these topics has been folded.
SELECT topic, partition, next_offset FROM offsets WHERE live() AND topic = ANY (%(topics)s);

-- name: chains
-- The chain of each partition up to its offset; the only columns that the notary reads.
SELECT topic, partition, next_offset, chain FROM offsets WHERE live() AND chain IS NOT NULL;

-- name: held
-- What no device of an account has acknowledged, messages and their bytes, counted up to the limit: in all, and by sender where
-- one has more than `small` or `small_size`. With it how far its partition was folded. Lengths are known without reading bodies.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account),
counted AS (
    SELECT sender, count(*) AS held, sum(size) AS size
    FROM reader CROSS JOIN LATERAL (
        SELECT sender, octet_length(sealed) AS size FROM mailbox WHERE account = reader.account LIMIT %(limit)s
    ) AS unacknowledged
    GROUP BY sender
)
SELECT coalesce((SELECT next_offset FROM offsets WHERE topic = %(topic)s AND partition = %(partition)s), 0) AS applied,
       coalesce(sum(held), 0)::bigint AS total, coalesce(sum(size), 0)::bigint AS size,
       array_agg(sender) FILTER (WHERE held > %(small)s OR size > %(small_size)s) AS senders,
       array_agg(held) FILTER (WHERE held > %(small)s OR size > %(small_size)s) AS counts,
       array_agg(size::bigint) FILTER (WHERE held > %(small)s OR size > %(small_size)s) AS sizes
FROM counted WHERE reached(%(topic)s, %(partitions)s, %(ends)s);

-- name: erased_and_back
-- Some accounts that are erased in the log and not among the accounts.
SELECT erased.account FROM erased JOIN accounts.accounts ON accounts.user_id = erased.account
WHERE live() AND accounts.erased_at IS NULL LIMIT 100;

-- name: untold_accounts
-- Some erased accounts whose messages have not all been named to their senders. Goes from one account to the next in the index.
WITH RECURSIVE found (account) AS (
    (SELECT account FROM untold ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT untold.account FROM untold WHERE untold.account > found.account ORDER BY untold.account LIMIT 1)
    FROM found WHERE found.account IS NOT NULL
)
SELECT account FROM found WHERE live() AND account IS NOT NULL LIMIT 100;

-- name: untold
-- Messages of an erased account after a position whose senders have yet to be told, oldest first.
WITH reader AS MATERIALIZED (SELECT set_config('restante.reader', %(user)s::text, true)::uuid AS account)
SELECT found.* FROM reader CROSS JOIN LATERAL (
    SELECT message_id, position, sender FROM untold
    WHERE account = reader.account AND position > %(after)s ORDER BY position LIMIT %(limit)s
) AS found
WHERE reached(%(topic)s, %(partitions)s, %(ends)s)
ORDER BY position;
