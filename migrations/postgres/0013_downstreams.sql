-- Other instances of Countersign that sign for the same trust domain below roots of this one.
CREATE TABLE downstreams (
    name TEXT COLLATE "C" PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The newest bundle that it follows with everything below it, by its sequence.
    bundle_sequence BIGINT NOT NULL DEFAULT 0,
    -- When it asked last; 0 before.
    seen_at BIGINT NOT NULL DEFAULT 0
);

-- What was signed for them. They outlive the credential that asked for them.
CREATE TABLE downstream_authorities (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    downstream TEXT NOT NULL,
    generation BIGINT NOT NULL,
    serial TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    -- DER, the root last.
    chain BYTEA NOT NULL
);
UPDATE schema SET version = 13;
