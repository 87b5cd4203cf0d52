-- What the owner of the recovery key has signed for agents that can tell the CA no longer from a
-- thief of its root; the highest number counts.
CREATE TABLE bundle_updates (
    number BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    author TEXT NOT NULL,
    published_at BIGINT NOT NULL
);
UPDATE schema SET version = 12;
