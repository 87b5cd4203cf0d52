-- A file has one replica, which keeps in memory what is announced to it.
UPDATE schema SET version = 8;
