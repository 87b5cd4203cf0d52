-- What an agent's attestor said of it, as JSON, and at which attestation: a build that knows nothing
-- of this writes a later attestation without it, and then it counts no longer.
ALTER TABLE agents ADD COLUMN selectors TEXT;
ALTER TABLE agents ADD COLUMN selectors_at BIGINT;

-- Every replica judges by what agents said to the others.
CREATE TRIGGER first_selectors_are_told AFTER INSERT ON agents
FOR EACH ROW WHEN (NEW.selectors IS NOT NULL) EXECUTE FUNCTION tell_of_agent();
CREATE TRIGGER selectors_are_told AFTER UPDATE ON agents
FOR EACH ROW WHEN (
    CASE WHEN OLD.selectors_at = OLD.attested_at THEN OLD.selectors END
    IS DISTINCT FROM CASE WHEN NEW.selectors_at = NEW.attested_at THEN NEW.selectors END
) EXECUTE FUNCTION tell_of_agent();
UPDATE schema SET version = 14;
