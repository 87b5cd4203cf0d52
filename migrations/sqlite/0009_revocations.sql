-- Who is refused although the certificate verifies, beside what was issued through banned agents.
CREATE TABLE revocations (
    -- `identity`, `serial` or `authority`.
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- When it leaves by itself; null: when it is lifted.
    expires_at INTEGER,
    -- Which revision last changed it.
    revision INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

-- A ban is a revision too; 0 of those that older builds made.
ALTER TABLE agent_bans ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE schema SET version = 9;
