-- The last revocation list of each authority, for validators that know no deny-list.
CREATE TABLE crls (
    -- Key id of the authority.
    issuer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    -- The newest revision of a revocation that the list knows.
    covers INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    der BLOB NOT NULL
) STRICT, WITHOUT ROWID;
-- What a list of the authority above names it by; null of those that older builds made.
ALTER TABLE intermediates ADD COLUMN serial TEXT;
-- When it was found that nobody can sign a list with it any more; 0 until then. Its leaves are
-- replaced.
ALTER TABLE intermediates ADD COLUMN superseded_at INTEGER NOT NULL DEFAULT 0;
UPDATE schema SET version = 10;
