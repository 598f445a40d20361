-- name: create_account
-- A new account with its wrapped key. No row comes back where the name was ever given before.
INSERT INTO accounts.accounts (user_id, name, password_hash, wrapped_key)
VALUES (%(user_id)s, %(name)s, %(password_hash)s, %(wrapped_key)s)
ON CONFLICT (name) DO NOTHING
RETURNING user_id;

-- name: create_outside
-- A new account for a subject of an outside provider. Nothing happens where the name or the subject was ever given one.
INSERT INTO accounts.accounts (user_id, name, subject, wrapped_key)
VALUES (%(user_id)s, %(name)s, %(subject)s, %(wrapped_key)s)
ON CONFLICT DO NOTHING;

-- name: outside
-- The account of a subject, erased or not, with its device of a label, and up to when tokens have ended for that label.
SELECT a.user_id, a.erased_at IS NOT NULL AS erased, d.device_id, d.registered_at IS NOT NULL AS registered,
    (SELECT max(e.ended_until) FROM accounts.devices e WHERE e.user_id = a.user_id AND e.label = %(label)s) AS ended_until
FROM accounts.accounts a
LEFT JOIN accounts.devices d ON d.user_id = a.user_id AND d.label = %(label)s AND d.removed_at IS NULL
WHERE a.subject = %(subject)s;

-- name: token_shown
-- A device came with a token that the provider issued then, unless that is over, the device was removed or its account erased.
-- Gives the generation of its tokens. Keeps revocations and erasures waiting until the transaction ends.
WITH owner AS (
    SELECT accounts.user_id FROM accounts.accounts JOIN accounts.devices USING (user_id)
    WHERE devices.device_id = %(device_id)s AND accounts.erased_at IS NULL FOR SHARE OF accounts
)
UPDATE accounts.devices SET token_issued_at = greatest(token_issued_at, %(issued_at)s::bigint) FROM owner
WHERE devices.user_id = owner.user_id AND device_id = %(device_id)s AND removed_at IS NULL
  AND (ended_until IS NULL OR ended_until < %(issued_at)s::bigint)
RETURNING generation;

-- name: name_taken
-- Whether a name was ever given, erased accounts included.
SELECT EXISTS (SELECT FROM accounts.accounts WHERE name = %(name)s) AS taken;

-- name: login
-- What a login is checked against.
SELECT user_id, password_hash FROM accounts.accounts WHERE name = %(name)s AND erased_at IS NULL;

-- name: rehash
-- The same password under another hash. What was changed or erased meanwhile stays.
UPDATE accounts.accounts SET password_hash = %(new)s
WHERE user_id = %(user_id)s AND password_hash = %(old)s AND erased_at IS NULL;

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

-- name: count_keys
-- How many accounts have a key.
SELECT count(*) FROM accounts.accounts WHERE wrapped_key IS NOT NULL;

-- name: wrapped_keys
-- The next wrapped keys above an account's id.
SELECT user_id, wrapped_key FROM accounts.accounts
WHERE user_id > %(after)s AND wrapped_key IS NOT NULL ORDER BY user_id LIMIT %(limit)s;

-- name: rewrap
-- Keys wrapped anew, each where the account still has the one that it was made from: what was destroyed meanwhile stays so.
UPDATE accounts.accounts SET wrapped_key = given.new
FROM unnest(%(user_ids)s::uuid[], %(old)s::bytea[], %(new)s::bytea[]) AS given(user_id, old, new)
WHERE accounts.user_id = given.user_id AND accounts.wrapped_key = given.old;

-- name: create_device
-- The device of this label, unless the account has one, or is erased. Keeps an erasure waiting until the transaction ends.
INSERT INTO accounts.devices (device_id, user_id, label)
SELECT %(device_id)s, user_id, %(label)s FROM accounts.accounts WHERE user_id = %(user_id)s AND erased_at IS NULL FOR SHARE
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

-- name: unfinished_removals
-- Devices whose removal the log does not hold yet: an account's, or (without one) some that were removed a while ago.
SELECT device_id, user_id, registered_at IS NOT NULL AS registered FROM accounts.devices
WHERE removed_at IS NOT NULL AND removal_recorded_at IS NULL
  AND CASE WHEN %(user_id)s::uuid IS NULL THEN removed_at < now() - make_interval(secs => %(seconds)s)
           ELSE user_id = %(user_id)s END
LIMIT 100;

-- name: removal_recorded
-- The log holds the device's removal.
UPDATE accounts.devices SET removal_recorded_at = now() WHERE device_id = %(device_id)s AND removal_recorded_at IS NULL;

-- name: devices
-- An account's devices, oldest first. Times are milliseconds since 1970.
SELECT device_id, label, floor(extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms,
    floor(extract(epoch FROM last_seen_at) * 1000)::bigint AS last_seen_at_ms
FROM accounts.devices WHERE user_id = %(user_id)s AND removed_at IS NULL
ORDER BY created_at, device_id;

-- name: removed_device
-- A device that its account has removed.
SELECT device_id, user_id, registered_at IS NOT NULL AS registered, removal_recorded_at IS NOT NULL AS recorded
FROM accounts.devices WHERE device_id = %(device_id)s AND user_id = %(user_id)s AND removed_at IS NOT NULL;

-- name: remove_device
-- Take a device off its account, unless that was done.
UPDATE accounts.devices SET removed_at = now()
WHERE device_id = %(device_id)s AND user_id = %(user_id)s AND removed_at IS NULL;

-- name: revoke_tokens
-- End every access token that the device has. Run it before the families end: it waits for a login that is under way.
UPDATE accounts.devices SET generation = generation + 1, revoked_at = now(), ended_until = token_issued_at
WHERE device_id = %(device_id)s RETURNING generation;

-- name: end_families
-- None of the device's refresh tokens is good any more.
UPDATE accounts.refresh_families SET ended_at = now() WHERE device_id = %(device_id)s AND ended_at IS NULL;

-- name: announce
-- Tell those who listen; they hear it when the transaction commits.
SELECT pg_notify(%(channel)s, %(payload)s);

-- name: revoked
-- Devices whose tokens were ended within the last seconds, and how many seconds ago.
SELECT device_id, generation, extract(epoch FROM now() - revoked_at)::float8 AS age
FROM accounts.devices WHERE revoked_at > now() - make_interval(secs => %(seconds)s);

-- name: present_device
-- The generation that a device's tokens have now, unless it was removed or its account erased; it is being seen. Keeps
-- revocations and erasures waiting until the transaction ends.
WITH owner AS (
    SELECT accounts.user_id FROM accounts.accounts JOIN accounts.devices USING (user_id)
    WHERE devices.device_id = %(device_id)s AND accounts.erased_at IS NULL FOR SHARE OF accounts
)
UPDATE accounts.devices SET last_seen_at = greatest(last_seen_at, to_timestamp(%(now)s)) FROM owner
WHERE devices.user_id = owner.user_id AND device_id = %(device_id)s AND removed_at IS NULL RETURNING generation;

-- name: create_family
-- A login's family of refresh tokens.
INSERT INTO accounts.refresh_families (family_id, device_id) VALUES (%(family_id)s, %(device_id)s);

-- name: create_token
-- A refresh token, by its hash; its predecessor is the one it was given for.
INSERT INTO accounts.refresh_tokens (token_hash, family_id, predecessor, issued_at, expires_at)
VALUES (%(token_hash)s, %(family_id)s, %(predecessor)s, to_timestamp(%(now)s), to_timestamp(%(expires)s));

-- name: refresh_token
-- A refresh token with all that decides what becomes of it. Times are seconds since 1970.
SELECT f.family_id, f.ended_at IS NOT NULL AS ended, d.device_id, d.user_id, d.generation,
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

-- name: devices_seen
-- When devices were last seen (seconds since 1970). Locked in order, so that two processes never wait for each other in a circle.
WITH locked AS (
    SELECT device_id FROM accounts.devices WHERE device_id = ANY(%(device_ids)s) ORDER BY device_id FOR UPDATE
)
UPDATE accounts.devices SET last_seen_at = to_timestamp(given.seen)
FROM unnest(%(device_ids)s::uuid[], %(times)s::float8[]) AS given(device_id, seen) JOIN locked USING (device_id)
WHERE devices.device_id = given.device_id AND devices.removed_at IS NULL
  AND (devices.last_seen_at IS NULL OR devices.last_seen_at < to_timestamp(given.seen));

-- name: erase
-- Mark an account, unless that was done: nobody logs in to it or finds it any more, and its bodies open no more.
UPDATE accounts.accounts SET erased_at = now(), password_hash = NULL, wrapped_key = NULL
WHERE user_id = %(user_id)s AND erased_at IS NULL;

-- name: erase_devices
-- Its devices are gone with it, without labels and without tokens; AccountErased says so in the log. Locked in order, as above.
WITH locked AS (
    SELECT device_id FROM accounts.devices WHERE user_id = %(user_id)s ORDER BY device_id FOR UPDATE
)
UPDATE accounts.devices SET label = '', last_seen_at = NULL, token_issued_at = NULL, ended_until = NULL,
    generation = generation + 1, revoked_at = now(),
    removed_at = coalesce(removed_at, now()), removal_recorded_at = coalesce(removal_recorded_at, now())
FROM locked WHERE devices.device_id = locked.device_id RETURNING devices.device_id, devices.generation;

-- name: erase_families
-- All its refresh tokens go, with their families.
DELETE FROM accounts.refresh_families USING accounts.devices
WHERE refresh_families.device_id = devices.device_id AND devices.user_id = %(user_id)s;

-- name: erased
-- Accounts that were erased within the last seconds, and how many seconds ago.
SELECT user_id, extract(epoch FROM now() - erased_at)::float8 AS age
FROM accounts.accounts WHERE erased_at > now() - make_interval(secs => %(seconds)s);

-- name: unfinished_erasures
-- Some accounts that were erased a while ago, and whose erasure the log does not hold yet.
SELECT user_id FROM accounts.accounts
WHERE erased_at < now() - make_interval(secs => %(seconds)s) AND erasure_recorded_at IS NULL
LIMIT 100;

-- name: erasure_recorded
-- The log holds the account's erasure.
UPDATE accounts.accounts SET erasure_recorded_at = now() WHERE user_id = %(user_id)s AND erasure_recorded_at IS NULL;
