-- Leases are timed since the start of the machine, so that setting its clock moves none of them.

DROP TABLE lease;
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    boot TEXT NOT NULL,
    until REAL NOT NULL,
    payload TEXT NOT NULL
) WITHOUT ROWID;
