-- Agents that may not attest, renew or be issued anything, whether they are known or not.
CREATE TABLE agent_bans (
    spiffe_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    banned_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
UPDATE schema SET version = 4;
