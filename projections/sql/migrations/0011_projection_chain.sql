-- The chain of hashes (schemas.chain) after the last record folded. NULL in tables that are older than this column, until they
-- are rebuilt: a chain cannot begin in the middle.
ALTER TABLE offsets ADD COLUMN chain bytea;
