-- Which replicas there are, when each was last heard of, and the newest revision that all agents
-- connected to it have acknowledged.
CREATE TABLE replicas (
    name TEXT COLLATE "C" PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    enforced BIGINT NOT NULL
);
CREATE INDEX revisions_not_enforced ON revisions (number) WHERE enforced_at IS NULL;

-- Who does what only one replica does at a time, and until when. Each change of hands counts one.
CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL,
    version BIGINT NOT NULL
);

-- Replicas keep in memory who may renew and who is banned, and must hear of it when that ends or
-- changes.
CREATE FUNCTION tell_of_agent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('countersign_agent', COALESCE(OLD.spiffe_id, NEW.spiffe_id));
    RETURN NULL;
END
$$;
CREATE TRIGGER forgotten_is_told AFTER DELETE ON agents
FOR EACH ROW EXECUTE FUNCTION tell_of_agent();
CREATE TRIGGER ban_is_told AFTER INSERT OR DELETE ON agent_bans
FOR EACH ROW EXECUTE FUNCTION tell_of_agent();
UPDATE schema SET version = 6;
