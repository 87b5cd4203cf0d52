-- Other instances of Countersign that sign for the same trust domain below roots of this one.
CREATE TABLE downstreams (
    name TEXT PRIMARY KEY,
    secret_sha256 BLOB NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The newest bundle that it follows with everything below it, by its sequence.
    bundle_sequence INTEGER NOT NULL DEFAULT 0,
    -- When it asked last; 0 before.
    seen_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- What was signed for them. They outlive the credential that asked for them.
CREATE TABLE downstream_authorities (
    key_id TEXT PRIMARY KEY,
    downstream TEXT NOT NULL,
    generation INTEGER NOT NULL,
    serial TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    -- DER, the root last.
    chain BLOB NOT NULL
) STRICT, WITHOUT ROWID;
UPDATE schema SET version = 13;
