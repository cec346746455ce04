-- What was concluded from experiments, alerts and who is told of them, and what people approved.

CREATE TABLE "verdict" (
    put_order INTEGER PRIMARY KEY,
    "experiment" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "endpoint" TEXT,
    body TEXT NOT NULL,
    UNIQUE ("experiment", "seq")
);
CREATE INDEX verdict_endpoint ON "verdict" ("endpoint");

CREATE TABLE "alert" (
    put_order INTEGER PRIMARY KEY,
    "endpoint" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("endpoint", "name", "seq")
);

CREATE TABLE "mute" (
    put_order INTEGER PRIMARY KEY,
    "endpoint" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("endpoint", "name", "seq")
);

CREATE TABLE "approval" (
    put_order INTEGER PRIMARY KEY,
    "loop" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("loop", "seq")
);
