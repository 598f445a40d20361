-- The end of a session may overtake the DeliveryAttempted on its way into the log: what counts is whether it came after the
-- message.
DROP FUNCTION attempt_failed(decisions);

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
