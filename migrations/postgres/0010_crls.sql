-- The last revocation list of each authority, for validators that know no deny-list.
CREATE TABLE crls (
    -- Key id of the authority.
    issuer TEXT COLLATE "C" PRIMARY KEY,
    number BIGINT NOT NULL,
    -- The newest revision of a revocation that the list knows.
    covers BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    der BYTEA NOT NULL
);
-- What a list of the authority above names it by; null of those that older builds made.
ALTER TABLE intermediates ADD COLUMN serial TEXT COLLATE "C";
-- When it was found that nobody can sign a list with it any more; 0 until then. Its leaves are
-- replaced.
ALTER TABLE intermediates ADD COLUMN superseded_at BIGINT NOT NULL DEFAULT 0;

-- Every replica tells its agents of the lists of all.
CREATE FUNCTION tell_of_crls() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('countersign_crls', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER crl_is_told AFTER INSERT OR UPDATE ON crls
FOR EACH ROW EXECUTE FUNCTION tell_of_crls();
CREATE TRIGGER superseded_is_told AFTER UPDATE OF superseded_at ON intermediates
FOR EACH ROW EXECUTE FUNCTION tell_of_crls();
UPDATE schema SET version = 10;
