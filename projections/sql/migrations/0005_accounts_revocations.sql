-- An access token carries the generation that its device had when it was issued. Revoking raises it, at revoked_at, and so ends
-- every token from before, exactly and without a clock. A removed device is finished once removal_recorded_at says that the
-- log holds its DeviceRemoved.
ALTER TABLE accounts.devices
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN revoked_at timestamptz,
    ADD COLUMN removal_recorded_at timestamptz;

CREATE INDEX devices_user ON accounts.devices (user_id);
CREATE INDEX devices_revoked ON accounts.devices (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX devices_unfinished ON accounts.devices (user_id) WHERE removed_at IS NOT NULL AND removal_recorded_at IS NULL;
