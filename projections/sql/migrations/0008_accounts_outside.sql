-- Accounts whose logins an outside OpenID provider keeps: no password, and the SHA-256 of issuer and subject, never the subject
-- itself. It stays with the row of an erased account, so that the same subject does not get a new one.
ALTER TABLE accounts.accounts
    ALTER COLUMN password_hash DROP NOT NULL,
    ADD COLUMN subject bytea UNIQUE;

-- When the newest outside token that the device came with was issued (the provider's clock, seconds), and up to which of
-- these times its tokens have ended.
ALTER TABLE accounts.devices
    ADD COLUMN token_issued_at bigint,
    ADD COLUMN ended_until bigint;
