-- When a revision was written, by the clock that all replicas have in common; null of older ones.
ALTER TABLE revisions ADD COLUMN written_at BIGINT;
ALTER TABLE revisions ALTER COLUMN written_at
    SET DEFAULT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
-- From there to the last acknowledgement, in milliseconds.
ALTER TABLE revisions ADD COLUMN enforced_after BIGINT;

-- Whom writes are to wait for at a replica, as JSON; null of older builds.
ALTER TABLE replicas ADD COLUMN hold_ups TEXT;
UPDATE schema SET version = 11;
