-- name: create_account
-- A new account with its wrapped key. No row comes back where the name was ever given before.
INSERT INTO accounts.accounts (user_id, name, password_hash, wrapped_key)
VALUES (%(user_id)s, %(name)s, %(password_hash)s, %(wrapped_key)s)
ON CONFLICT (name) DO NOTHING
RETURNING user_id;

-- name: name_taken
-- Whether a name was ever given, erased accounts included.
SELECT EXISTS (SELECT FROM accounts.accounts WHERE name = %(name)s) AS taken;

-- name: login
-- What a login is checked against.
SELECT user_id, password_hash FROM accounts.accounts WHERE name = %(name)s AND erased_at IS NULL;

-- name: recipients_by_name
-- Who these names are, with the wrapped keys that their bodies are sealed under.
SELECT user_id, name, wrapped_key FROM accounts.accounts
WHERE name = ANY(%(names)s) AND erased_at IS NULL AND wrapped_key IS NOT NULL;

-- name: recipient_by_id
-- The same for one account by its id.
SELECT user_id, name, wrapped_key FROM accounts.accounts
WHERE user_id = %(user_id)s AND erased_at IS NULL AND wrapped_key IS NOT NULL;

-- name: any_recipient
-- The same for whichever account is found first.
SELECT user_id, name, wrapped_key FROM accounts.accounts
WHERE erased_at IS NULL AND wrapped_key IS NOT NULL LIMIT 1;

-- name: create_device
-- The device of this label, unless the account has one.
INSERT INTO accounts.devices (device_id, user_id, label)
VALUES (%(device_id)s, %(user_id)s, %(label)s)
ON CONFLICT (user_id, label) WHERE removed_at IS NULL DO NOTHING;

-- name: device_by_label
-- The account's device of this label.
SELECT device_id FROM accounts.devices WHERE user_id = %(user_id)s AND label = %(label)s AND removed_at IS NULL;

-- name: unregistered_devices
-- Devices whose registration in the log was not finished.
SELECT device_id FROM accounts.devices
WHERE user_id = %(user_id)s AND registered_at IS NULL AND removed_at IS NULL
ORDER BY created_at, device_id;

-- name: device_registered
-- The log holds the device's registration.
UPDATE accounts.devices SET registered_at = now() WHERE device_id = %(device_id)s AND registered_at IS NULL;

-- name: create_family
-- A login's family of refresh tokens, unless the device was removed meanwhile.
INSERT INTO accounts.refresh_families (family_id, device_id)
SELECT %(family_id)s, device_id FROM accounts.devices WHERE device_id = %(device_id)s AND removed_at IS NULL
RETURNING family_id;

-- name: create_token
-- A refresh token, by its hash; its predecessor is the one it was given for.
INSERT INTO accounts.refresh_tokens (token_hash, family_id, predecessor, issued_at, expires_at)
VALUES (%(token_hash)s, %(family_id)s, %(predecessor)s, to_timestamp(%(now)s), to_timestamp(%(expires)s));

-- name: refresh_token
-- A refresh token with all that decides what becomes of it. Times are seconds since 1970.
SELECT f.family_id, f.ended_at IS NOT NULL AS ended, d.device_id, d.user_id,
    (d.removed_at IS NOT NULL OR a.erased_at IS NOT NULL) AS removed,
    extract(epoch FROM t.expires_at)::float8 AS expires,
    extract(epoch FROM t.used_at)::float8 AS used,
    EXISTS (
        SELECT FROM accounts.refresh_tokens s WHERE s.predecessor = t.token_hash AND s.used_at IS NOT NULL
    ) AS followed
FROM accounts.refresh_tokens t
JOIN accounts.refresh_families f USING (family_id)
JOIN accounts.devices d USING (device_id)
JOIN accounts.accounts a USING (user_id)
WHERE t.token_hash = %(token_hash)s;

-- name: use_token
-- The first use of a refresh token counts; the grace runs from there.
UPDATE accounts.refresh_tokens SET used_at = to_timestamp(%(now)s) WHERE token_hash = %(token_hash)s AND used_at IS NULL;

-- name: end_family
-- None of the family's tokens is good any more.
UPDATE accounts.refresh_families SET ended_at = now() WHERE family_id = %(family_id)s AND ended_at IS NULL;

-- name: forget_expired
-- Tokens that were used, and would have expired a month ago, tell nobody anything any more.
DELETE FROM accounts.refresh_tokens
WHERE family_id = %(family_id)s AND used_at IS NOT NULL AND expires_at < to_timestamp(%(now)s) - interval '30 days';

-- name: device_seen
-- When the device last got tokens.
UPDATE accounts.devices SET last_seen_at = now() WHERE device_id = %(device_id)s;
