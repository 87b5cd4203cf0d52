-- What one mesh is, and everything its CA remembers. Times are milliseconds since the Unix epoch.

-- A build that reads less than `min_reader` must leave this database alone.
CREATE TABLE schema (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL,
    min_reader INTEGER NOT NULL
) STRICT;
INSERT INTO schema (only, version, min_reader) VALUES (1, 1, 1);

CREATE TABLE mesh (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    trust_domain TEXT NOT NULL,
    id_template TEXT NOT NULL,
    -- 64 bits, random; reinterpreted as signed.
    epoch INTEGER NOT NULL,
    -- Keys the hash that decision ids are made of.
    decision_key BLOB NOT NULL CHECK (length(decision_key) = 32),
    created_at INTEGER NOT NULL
) STRICT;

-- The one counter: its update is the last statement of a configuration write.
CREATE TABLE revision_counter (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    number INTEGER NOT NULL CHECK (number >= 0)
) STRICT;
INSERT INTO revision_counter (only, number) VALUES (1, 0);

CREATE TABLE revisions (
    number INTEGER PRIMARY KEY,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    content_sha256 BLOB NOT NULL CHECK (length(content_sha256) = 32),
    enforced_at INTEGER
) STRICT;

-- What is in force. A kind without namespaces has the empty one.
CREATE TABLE objects (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT, WITHOUT ROWID;

-- What ever was; `json` is null where the revision deleted the object.
CREATE TABLE object_history (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    json TEXT,
    PRIMARY KEY (kind, namespace, name, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX object_history_by_revision ON object_history (revision);

CREATE TRIGGER revisions_are_kept BEFORE DELETE ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never deleted'); END;
CREATE TRIGGER revisions_are_immutable
BEFORE UPDATE OF number, author, reason, committed_at, content_sha256 ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never changed'); END;
CREATE TRIGGER history_is_kept BEFORE DELETE ON object_history
BEGIN SELECT RAISE(ABORT, 'history is never deleted'); END;
CREATE TRIGGER history_is_immutable BEFORE UPDATE ON object_history
BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;

CREATE TABLE sealed_keys (
    purpose TEXT NOT NULL,
    version INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    wrapped_data_key BLOB NOT NULL,
    sealed BLOB NOT NULL,
    kek_check BLOB NOT NULL CHECK (length(kek_check) = 16),
    certificate BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (purpose, version)
) STRICT;

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
    agent_id TEXT NOT NULL,
    cidr TEXT,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    bound_key BLOB CHECK (bound_key IS NULL OR length(bound_key) = 32),
    redeemed_at INTEGER,
    CHECK ((bound_key IS NULL) = (redeemed_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    spiffe_id TEXT PRIMARY KEY,
    attested_at INTEGER NOT NULL,
    serial TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    -- The newest serial that this agent has shown in a handshake.
    seen_serial TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE issued (
    -- The order of issuance.
    sequence INTEGER PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,
    spiffe_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    leaf_sha256 BLOB NOT NULL CHECK (length(leaf_sha256) = 32)
) STRICT;
CREATE INDEX issued_by_identity ON issued (spiffe_id, sequence);
CREATE INDEX issued_by_end ON issued (not_after);

CREATE TABLE admin_credentials (
    id TEXT PRIMARY KEY,
    secret_sha256 BLOB NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
