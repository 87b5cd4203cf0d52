-- The transparency log (c2sp.org/tlog-tiles): what was signed is recorded first, and becomes a leaf
-- soon after. A step compares `size` and moves it: who was late changes nothing.
CREATE TABLE log_state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    size INTEGER NOT NULL CHECK (size >= 0),
    -- No record up to this sequence will become a leaf any more: it is one, or there is none.
    settled INTEGER NOT NULL CHECK (settled >= 0),
    -- Signed; absent before the first step.
    checkpoint TEXT
) STRICT;
INSERT INTO log_state (only, size, settled) VALUES (1, 0, 0);
CREATE TRIGGER log_never_shrinks BEFORE UPDATE ON log_state
WHEN NEW.size < OLD.size OR NEW.settled < OLD.settled
BEGIN SELECT RAISE(ABORT, 'the log never shrinks'); END;

-- 32 bytes for each hash, at most 256 of them.
CREATE TABLE log_tiles (
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
    PRIMARY KEY (level, number)
) STRICT;
CREATE TRIGGER log_tiles_are_kept BEFORE DELETE ON log_tiles
BEGIN SELECT RAISE(ABORT, 'a tile of the log is never deleted'); END;
CREATE TRIGGER log_tiles_only_grow BEFORE UPDATE ON log_tiles
WHEN substr(NEW.hashes, 1, length(OLD.hashes)) IS NOT OLD.hashes
BEGIN SELECT RAISE(ABORT, 'a tile of the log only grows'); END;

-- Entries go when all certificates of a full bundle have ended long ago; their hashes stay.
CREATE TABLE log_bundles (
    number INTEGER PRIMARY KEY,
    count INTEGER NOT NULL CHECK (count BETWEEN 1 AND 256),
    entries BLOB NOT NULL,
    last_end INTEGER NOT NULL
) STRICT;

-- Which leaf a record is: neighbouring records that are neighbouring leaves make one row.
CREATE TABLE log_runs (
    first_sequence INTEGER PRIMARY KEY,
    last_sequence INTEGER NOT NULL UNIQUE,
    first_leaf INTEGER NOT NULL UNIQUE,
    CHECK (last_sequence >= first_sequence)
) STRICT;

-- Certificates that may sign others. `serial` and `leaf` are known once it is a leaf.
CREATE TABLE log_authorities (
    id INTEGER PRIMARY KEY,
    certificate BLOB NOT NULL,
    issuer TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    serial TEXT,
    leaf INTEGER UNIQUE
) STRICT;
CREATE INDEX log_authorities_by_serial ON log_authorities (serial);
CREATE INDEX log_authorities_to_come ON log_authorities (id) WHERE leaf IS NULL;
INSERT INTO log_authorities (certificate, issuer, recorded_at)
SELECT certificate, key_id, created_at FROM sealed_keys
WHERE purpose = 'x509-root' ORDER BY version;

-- Leaves that proxies saw and neither the records nor the log hold: signed by somebody else with a
-- key of ours, or the records were lost.
CREATE TABLE unlogged_leaves (
    sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
    serial TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    -- Which agent said so first, and for the proxy of which workload.
    agent_id TEXT NOT NULL,
    workload TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
UPDATE schema SET version = 7;
