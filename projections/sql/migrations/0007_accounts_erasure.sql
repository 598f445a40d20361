-- An erased account is finished once erasure_recorded_at says that the log holds its AccountErased.
ALTER TABLE accounts.accounts ADD COLUMN erasure_recorded_at timestamptz;

CREATE INDEX accounts_erased ON accounts.accounts (erased_at) WHERE erased_at IS NOT NULL;
CREATE INDEX accounts_unfinished ON accounts.accounts (erased_at) WHERE erased_at IS NOT NULL AND erasure_recorded_at IS NULL;
