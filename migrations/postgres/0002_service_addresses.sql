-- Where each Service stands in the mesh's address ranges. A name keeps its place for good, even
-- when the Service is deleted: no other ever answers at an address that a client may remember.
CREATE TABLE service_places (
    -- 2^28 addresses are in 240.0.0.0/4; the last sixteenth holds the broadcast address.
    place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (place BETWEEN 1 AND 251658239),
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    UNIQUE (namespace, name)
);
CREATE TRIGGER places_are_kept BEFORE DELETE OR TRUNCATE ON service_places
FOR EACH STATEMENT EXECUTE FUNCTION refuse('a place is never given away');
CREATE TRIGGER places_are_immutable BEFORE UPDATE ON service_places
FOR EACH STATEMENT EXECUTE FUNCTION refuse('a place is never changed');
UPDATE schema SET version = 2;
