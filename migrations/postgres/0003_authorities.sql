-- The life of the authorities of each kind, one row for each kind. A step compares `version` and
-- sets it one higher: who was late changes nothing.
CREATE TABLE authority_states (
    purpose TEXT COLLATE "C" PRIMARY KEY,
    version BIGINT NOT NULL CHECK (version > 0),
    json TEXT NOT NULL
);

-- Which authority stands above each issuer of recorded leaves. `generation` is the version of its
-- sealed key.
CREATE TABLE intermediates (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    generation BIGINT NOT NULL,
    replica TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

-- The newest bundle that the agent has acknowledged, by its sequence.
ALTER TABLE agents ADD COLUMN bundle_sequence BIGINT NOT NULL DEFAULT 0;
UPDATE schema SET version = 3;
