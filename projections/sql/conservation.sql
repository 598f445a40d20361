-- Statements of conservation.py, in one snapshot.

-- name: gently
-- One core, memory enough to join whole tables, and no index where every row is wanted.
SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('work_mem', '64MB', true),
       set_config('enable_seqscan', 'on', true);

-- name: count
-- Messages by partition and state (as evolve ranks them; see page for the decided), and how many of them are not in exactly one of
-- mailbox, acknowledged, ended with the account.
SELECT messages.partition,
       CASE WHEN reads.message_id IS NOT NULL THEN 5
            WHEN acknowledged.message_id IS NOT NULL THEN 4
            WHEN erased.account IS NOT NULL THEN 6
            ELSE coalesce(judged.decided, 1) END AS status,
       count(*),
       count(*) FILTER (WHERE (mailbox.account IS NOT NULL)::int + (acknowledged.message_id IS NOT NULL)::int
           + (erased.account IS NOT NULL AND acknowledged.message_id IS NULL)::int <> 1)
FROM messages
LEFT JOIN reads USING (message_id)
LEFT JOIN (SELECT DISTINCT message_id FROM deliveries) AS acknowledged USING (message_id)
LEFT JOIN erased ON erased.account = messages.recipient
LEFT JOIN mailbox ON mailbox.account = messages.recipient AND mailbox.position = messages.position
LEFT JOIN LATERAL (
    SELECT max(CASE WHEN decisions.pending THEN CASE WHEN decisions.session_id IS NULL THEN 3 END
                    WHEN attempt_failed(decisions, messages.position) THEN 3
                    ELSE 2 END) AS decided
    FROM decisions WHERE acknowledged.message_id IS NULL AND decisions.message_id = messages.message_id
) AS judged ON true
GROUP BY 1, 2;

-- name: repeats
-- Rejected repeats by partition.
SELECT partition, count(*) FROM repeats GROUP BY partition;
