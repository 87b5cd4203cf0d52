-- Agents that may not attest, renew or be issued anything, whether they are known or not.
CREATE TABLE agent_bans (
    spiffe_id TEXT COLLATE "C" PRIMARY KEY,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    banned_at BIGINT NOT NULL
);
UPDATE schema SET version = 4;
