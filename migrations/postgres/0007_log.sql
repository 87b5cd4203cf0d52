-- The transparency log (c2sp.org/tlog-tiles): what was signed is recorded first, and becomes a leaf
-- soon after. A step compares `size` and moves it: who was late changes nothing.
CREATE TABLE log_state (
    "only" BIGINT PRIMARY KEY CHECK ("only" = 1),
    size BIGINT NOT NULL CHECK (size >= 0),
    -- No record up to this sequence will become a leaf any more: it is one, or there is none.
    settled BIGINT NOT NULL CHECK (settled >= 0),
    -- Signed; absent before the first step.
    checkpoint TEXT
);
INSERT INTO log_state ("only", size, settled) VALUES (1, 0, 0);
CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$$;
CREATE TRIGGER log_never_shrinks BEFORE UPDATE ON log_state
FOR EACH ROW WHEN (NEW.size < OLD.size OR NEW.settled < OLD.settled)
EXECUTE FUNCTION refuse_row('the log never shrinks');

-- 32 bytes for each hash, at most 256 of them.
CREATE TABLE log_tiles (
    level BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hashes BYTEA NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
    PRIMARY KEY (level, number)
);
CREATE TRIGGER log_tiles_are_kept BEFORE DELETE OR TRUNCATE ON log_tiles
FOR EACH STATEMENT EXECUTE FUNCTION refuse('a tile of the log is never deleted');
CREATE TRIGGER log_tiles_only_grow BEFORE UPDATE ON log_tiles
FOR EACH ROW WHEN (substr(NEW.hashes, 1, length(OLD.hashes)) IS DISTINCT FROM OLD.hashes)
EXECUTE FUNCTION refuse_row('a tile of the log only grows');

-- Entries go when all certificates of a full bundle have ended long ago; their hashes stay.
CREATE TABLE log_bundles (
    number BIGINT PRIMARY KEY,
    count BIGINT NOT NULL CHECK (count BETWEEN 1 AND 256),
    entries BYTEA NOT NULL,
    last_end BIGINT NOT NULL
);

-- Which leaf a record is: neighbouring records that are neighbouring leaves make one row.
CREATE TABLE log_runs (
    first_sequence BIGINT PRIMARY KEY,
    last_sequence BIGINT NOT NULL UNIQUE,
    first_leaf BIGINT NOT NULL UNIQUE,
    CHECK (last_sequence >= first_sequence)
);

-- Certificates that may sign others. `serial` and `leaf` are known once it is a leaf.
CREATE TABLE log_authorities (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    certificate BYTEA NOT NULL,
    issuer TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    serial TEXT COLLATE "C",
    leaf BIGINT UNIQUE
);
CREATE INDEX log_authorities_by_serial ON log_authorities (serial);
CREATE INDEX log_authorities_to_come ON log_authorities (id) WHERE leaf IS NULL;
INSERT INTO log_authorities (certificate, issuer, recorded_at)
SELECT certificate, key_id, created_at FROM sealed_keys
WHERE purpose = 'x509-root' ORDER BY version;

-- Leaves that proxies saw and neither the records nor the log hold: signed by somebody else with a
-- key of ours, or the records were lost.
CREATE TABLE unlogged_leaves (
    sha256 BYTEA PRIMARY KEY CHECK (length(sha256) = 32),
    serial TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    -- Which agent said so first, and for the proxy of which workload.
    agent_id TEXT NOT NULL,
    workload TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL
);
UPDATE schema SET version = 7;
