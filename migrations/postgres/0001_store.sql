-- What one mesh is, and everything its CA remembers. Times are milliseconds since the Unix epoch.
-- Keys compare by bytes ("C"), whatever language the database was made for.

-- A build that reads less than `min_reader` must leave this database alone.
CREATE TABLE schema (
    "only" BIGINT PRIMARY KEY CHECK ("only" = 1),
    version BIGINT NOT NULL,
    min_reader BIGINT NOT NULL
);
INSERT INTO schema ("only", version, min_reader) VALUES (1, 1, 1);

CREATE TABLE mesh (
    "only" BIGINT PRIMARY KEY CHECK ("only" = 1),
    trust_domain TEXT NOT NULL,
    id_template TEXT NOT NULL,
    -- 64 bits, random; reinterpreted as signed.
    epoch BIGINT NOT NULL,
    -- Keys the hash that decision ids are made of.
    decision_key BYTEA NOT NULL CHECK (length(decision_key) = 32),
    created_at BIGINT NOT NULL
);

-- The one counter: its update is the last statement of a configuration write.
CREATE TABLE revision_counter (
    "only" BIGINT PRIMARY KEY CHECK ("only" = 1),
    number BIGINT NOT NULL CHECK (number >= 0)
);
INSERT INTO revision_counter ("only", number) VALUES (1, 0);

CREATE FUNCTION tell_of_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('countersign_revision', NEW.number::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER revision_is_told AFTER UPDATE ON revision_counter
FOR EACH ROW EXECUTE FUNCTION tell_of_revision();

CREATE TABLE revisions (
    number BIGINT PRIMARY KEY,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    committed_at BIGINT NOT NULL,
    content_sha256 BYTEA NOT NULL CHECK (length(content_sha256) = 32),
    enforced_at BIGINT
);

-- What is in force. A kind without namespaces has the empty one.
CREATE TABLE objects (
    kind TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
);

-- What ever was; `json` is null where the revision deleted the object.
CREATE TABLE object_history (
    kind TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    json TEXT,
    PRIMARY KEY (kind, namespace, name, revision)
);
CREATE INDEX object_history_by_revision ON object_history (revision);

-- Raises its argument, for tables whose rows stay as they are.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$$;
CREATE TRIGGER revisions_are_kept BEFORE DELETE OR TRUNCATE ON revisions
FOR EACH STATEMENT EXECUTE FUNCTION refuse('a revision is never deleted');
CREATE TRIGGER revisions_are_immutable
BEFORE UPDATE OF number, author, reason, committed_at, content_sha256 ON revisions
FOR EACH STATEMENT EXECUTE FUNCTION refuse('a revision is never changed');
CREATE TRIGGER history_is_kept BEFORE DELETE OR TRUNCATE ON object_history
FOR EACH STATEMENT EXECUTE FUNCTION refuse('history is never deleted');
CREATE TRIGGER history_is_immutable BEFORE UPDATE ON object_history
FOR EACH STATEMENT EXECUTE FUNCTION refuse('history is never changed');

CREATE TABLE sealed_keys (
    purpose TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    wrapped_data_key BYTEA NOT NULL,
    sealed BYTEA NOT NULL,
    kek_check BYTEA NOT NULL CHECK (length(kek_check) = 16),
    certificate BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (purpose, version)
);

CREATE TABLE join_tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL CHECK (length(secret_sha256) = 32),
    agent_id TEXT COLLATE "C" NOT NULL,
    cidr TEXT,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    bound_key BYTEA CHECK (bound_key IS NULL OR length(bound_key) = 32),
    redeemed_at BIGINT,
    CHECK ((bound_key IS NULL) = (redeemed_at IS NULL))
);

CREATE TABLE agents (
    spiffe_id TEXT COLLATE "C" PRIMARY KEY,
    attested_at BIGINT NOT NULL,
    serial TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    -- The newest serial that this agent has shown in a handshake.
    seen_serial TEXT
);

CREATE TABLE issued (
    -- The order of issuance.
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    serial TEXT COLLATE "C" NOT NULL UNIQUE,
    spiffe_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    issuer TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    leaf_sha256 BYTEA NOT NULL CHECK (length(leaf_sha256) = 32)
);
CREATE INDEX issued_by_identity ON issued (spiffe_id, sequence);
CREATE INDEX issued_by_end ON issued (not_after);

CREATE TABLE admin_credentials (
    id TEXT COLLATE "C" PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);
