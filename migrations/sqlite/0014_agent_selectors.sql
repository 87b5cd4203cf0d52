-- What an agent's attestor said of it, as JSON, and at which attestation: a build that knows nothing
-- of this writes a later attestation without it, and then it counts no longer.
ALTER TABLE agents ADD COLUMN selectors TEXT;
ALTER TABLE agents ADD COLUMN selectors_at INTEGER;
UPDATE schema SET version = 14;
