-- What agents announce through each replica, so that all replicas can tell callers. A replica writes
-- its own rows only. `stamp` orders them: of one replica's rows the later written has the higher, so
-- that another one reads what is above the highest that it knows.
CREATE SEQUENCE announcement_stamps;
CREATE TABLE announcements (
    replica TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    stamp BIGINT NOT NULL,
    -- Whether the agent's stream is open.
    connected BIGINT NOT NULL,
    -- JSON; null of an agent that has announced nothing, or whose grace is over.
    list TEXT,
    written_at BIGINT NOT NULL,
    PRIMARY KEY (replica, agent_id)
);
CREATE INDEX announcements_by_stamp ON announcements (replica, stamp);
UPDATE schema SET version = 8;
