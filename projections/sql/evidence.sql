-- Statements of places.py, for whoever reads the log itself. They ask as an operator and see everybody's rows.

-- name: message
-- Where a message was stored, and how far its partition was folded.
SELECT messages.recipient, messages.partition, offsets.next_offset
FROM messages JOIN offsets ON offsets.topic = %(topic)s AND offsets.partition = messages.partition
WHERE live() AND message_id = %(id)s;

-- name: positions
-- Every position of its partition at which there is a record about a message, or about a session that it was pushed to.
WITH message AS (SELECT * FROM messages WHERE message_id = %(id)s),
     attempts AS (SELECT * FROM decisions WHERE message_id = %(id)s AND NOT pending)
SELECT position FROM message
UNION SELECT position FROM repeats WHERE message_id = %(id)s
UNION SELECT position FROM decisions WHERE message_id = %(id)s
UNION SELECT position FROM deliveries WHERE message_id = %(id)s
UNION SELECT position FROM reads WHERE message_id = %(id)s
UNION SELECT erased.position FROM erased JOIN message ON erased.account = message.recipient
UNION SELECT session_ends.position FROM session_ends JOIN message ON session_ends.account = message.recipient
      WHERE session_ends.position > message.position
        AND session_ends.session_id IN (SELECT unnest(session_ids) FROM attempts);

-- name: receipts
-- The positions, in the sender's partition of the receipts topic, at which he was told what became of a message.
SELECT sender, receipts.position FROM messages
JOIN receipts ON receipts.account = messages.sender AND receipts.message_id = messages.message_id
WHERE messages.message_id = %(id)s ORDER BY receipts.position;

-- name: account
-- The account that has, or had, this name. Nothing but its id: who audits may not see more.
SELECT user_id FROM accounts.accounts WHERE name = %(name)s;
