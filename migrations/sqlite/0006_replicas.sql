-- Which replicas there are, when each was last heard of, and the newest revision that all agents
-- connected to it have acknowledged.
CREATE TABLE replicas (
    name TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    enforced INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revisions_not_enforced ON revisions (number) WHERE enforced_at IS NULL;

-- Who does what only one replica does at a time, and until when. Each change of hands counts one.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
UPDATE schema SET version = 6;
