-- Key id of what signed the intermediate: the root, or the authority of an upstream below it. Empty
-- of those that older builds made.
ALTER TABLE intermediates ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
UPDATE schema SET version = 15;
