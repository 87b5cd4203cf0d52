-- Where each Service stands in the mesh's address ranges. A name keeps its place for good, even
-- when the Service is deleted: no other ever answers at an address that a client may remember.
CREATE TABLE service_places (
    -- 2^28 addresses are in 240.0.0.0/4; the last sixteenth holds the broadcast address.
    place INTEGER PRIMARY KEY CHECK (place BETWEEN 1 AND 251658239),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (namespace, name)
) STRICT;
CREATE TRIGGER places_are_kept BEFORE DELETE ON service_places
BEGIN SELECT RAISE(ABORT, 'a place is never given away'); END;
CREATE TRIGGER places_are_immutable BEFORE UPDATE ON service_places
BEGIN SELECT RAISE(ABORT, 'a place is never changed'); END;
UPDATE schema SET version = 2;
