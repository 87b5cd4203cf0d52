-- Who is refused although the certificate verifies, beside what was issued through banned agents.
CREATE TABLE revocations (
    -- `identity`, `serial` or `authority`.
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it leaves by itself; null: when it is lifted.
    expires_at BIGINT,
    -- Which revision last changed it.
    revision BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- A ban is a revision too; 0 of those that older builds made.
ALTER TABLE agent_bans ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE schema SET version = 9;
