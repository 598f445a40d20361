-- Statements of replace.py, in one transaction whose search_path is the live place; the fold to copy is in projection_scratch.

-- name: begin
-- What belongs to the partition: its accounts, told by whoever knows the rule, and the messages of these.
CREATE TEMPORARY TABLE ours (account uuid PRIMARY KEY);

-- name: found
-- More accounts of the partition.
INSERT INTO ours SELECT * FROM unnest(%(accounts)s) ON CONFLICT DO NOTHING;

-- name: hold
-- The partition's offsets; who folds it waits until the end of the transaction.
SELECT topic, partition, next_offset FROM offsets WHERE partition = %(partition)s ORDER BY topic FOR UPDATE;

-- name: messages
-- Messages that are the partition's, here or by the fold.
CREATE TEMPORARY TABLE our_messages ON COMMIT DROP AS
SELECT message_id FROM messages JOIN ours ON account = recipient
UNION SELECT message_id FROM projection_scratch.messages;

-- name: move
-- What the offset rows remember of the last record, as the fold has it.
UPDATE offsets SET last_event_id = fold.last_event_id, last_at_ms = fold.last_at_ms, chain = fold.chain
FROM projection_scratch.offsets AS fold
WHERE offsets.topic = fold.topic AND offsets.partition = fold.partition AND offsets.next_offset = fold.next_offset
  AND fold.partition = %(partition)s;
