-- From the commit of a revision to the last acknowledgement, in milliseconds.
ALTER TABLE revisions ADD COLUMN enforced_after INTEGER;
UPDATE schema SET version = 11;
