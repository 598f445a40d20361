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
