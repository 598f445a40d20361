-- Who has written to an account: what decides who may see whether it is there. Filled from what was folded before.
CREATE TABLE contacts (
    account uuid NOT NULL,
    sender uuid NOT NULL,
    PRIMARY KEY (account, sender)
);
INSERT INTO contacts SELECT DISTINCT recipient, sender FROM messages;

-- A device's latest session is the one with the latest marker.
DROP INDEX sessions_device;
CREATE INDEX sessions_device ON sessions (device_id, epoch);

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
