-- Statements of compare.py, on connections of its own: each looks into the place that its search_path names.

-- name: tables
-- The tables that are a fold of the log: their columns, the primary key's, and the order by it as Python compares values.
SELECT relname::text,
       (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped),
       array_agg(attname::text ORDER BY place),
       string_agg(quote_ident(attname) || CASE WHEN atttypid = 'text'::regtype THEN ' COLLATE "C"' ELSE '' END, ', '
                  ORDER BY place)
FROM pg_class JOIN pg_index ON indrelid = pg_class.oid AND indisprimary
CROSS JOIN unnest(indkey::smallint[]) WITH ORDINALITY AS keyed(number, place)
JOIN pg_attribute ON attrelid = pg_class.oid AND attnum = keyed.number
WHERE relnamespace = %(place)s::regnamespace AND relkind = 'r' AND relname <> 'migrations'
GROUP BY pg_class.oid, relname ORDER BY relname;

-- name: about_message
-- The records about a message: what they are, their partition and their offset.
SELECT 'MessageStored', partition, position FROM messages WHERE message_id = %(message)s
UNION SELECT 'MessageStored', partition, position FROM repeats WHERE message_id = %(message)s
UNION SELECT CASE WHEN pending THEN 'PendingSync' ELSE 'DeliveryAttempted' END, partition, decisions.position
      FROM decisions JOIN messages USING (message_id) WHERE message_id = %(message)s
UNION SELECT CASE WHEN reads.position IS NULL THEN 'MessagesDelivered' ELSE 'MessagesRead' END, partition, deliveries.position
      FROM deliveries JOIN messages USING (message_id) LEFT JOIN reads
      ON reads.message_id = deliveries.message_id AND reads.position = deliveries.position
      WHERE deliveries.message_id = %(message)s
UNION SELECT 'MessagesRead', partition, reads.position FROM reads JOIN messages USING (message_id) WHERE message_id = %(message)s
UNION SELECT 'AccountErased', partition, erased.position
      FROM erased JOIN messages ON recipient = account WHERE message_id = %(message)s
ORDER BY 3;

-- name: about_contact
-- The first record by which one account wrote to another.
SELECT 'MessageStored', partition, position FROM messages WHERE recipient = %(account)s AND sender = %(sender)s
ORDER BY position LIMIT 1;
