-- What is pinned, and what was removed because nothing kept referred to it.

CREATE TABLE "pin" (
    put_order INTEGER PRIMARY KEY,
    "path" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("path", "seq")
);

CREATE TABLE "collection" (
    put_order INTEGER PRIMARY KEY,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("seq")
);
