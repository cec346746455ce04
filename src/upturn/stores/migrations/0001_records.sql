-- One table for each kind of record, and the leases.

CREATE TABLE "run" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "flow" TEXT NOT NULL,
    "parent" TEXT,
    "started_at" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id")
);
CREATE INDEX run_flow ON "run" ("flow");
CREATE INDEX run_parent ON "run" ("parent");
CREATE INDEX run_started_at ON "run" ("started_at");

CREATE TABLE "run_state" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "seq")
);

CREATE TABLE "task" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "step" TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    "memo" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "step", "index", "seq")
);
CREATE INDEX task_memo ON "task" ("memo");

CREATE TABLE "task_state" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "step" TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "step", "index", "seq")
);

CREATE TABLE "memo" (
    put_order INTEGER PRIMARY KEY,
    "memo" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("memo", "seq")
);

CREATE TABLE "artifact" (
    put_order INTEGER PRIMARY KEY,
    "digest" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("digest")
);

CREATE TABLE "metric" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "step" TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "step", "index", "seq")
);

CREATE TABLE "exhibit" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "step" TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "step", "index", "seq")
);

CREATE TABLE "version" (
    put_order INTEGER PRIMARY KEY,
    "model" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "artifact" TEXT NOT NULL,
    "run" TEXT,
    body TEXT NOT NULL,
    UNIQUE ("model", "number")
);
CREATE INDEX version_artifact ON "version" ("artifact");
CREATE INDEX version_run ON "version" ("run");

CREATE TABLE "alias" (
    put_order INTEGER PRIMARY KEY,
    "model" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("model", "name", "seq")
);

CREATE TABLE "endpoint" (
    put_order INTEGER PRIMARY KEY,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("name", "seq")
);

CREATE TABLE "route" (
    put_order INTEGER PRIMARY KEY,
    "endpoint" TEXT NOT NULL,
    "revision" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("endpoint", "revision")
);

CREATE TABLE "decision" (
    put_order INTEGER PRIMARY KEY,
    "loop" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "action" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("loop", "seq")
);
CREATE INDEX decision_action ON "decision" ("action");

CREATE TABLE "check" (
    put_order INTEGER PRIMARY KEY,
    "endpoint" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("endpoint", "seq")
);

CREATE TABLE "edge" (
    put_order INTEGER PRIMARY KEY,
    "source" TEXT NOT NULL,
    "target" TEXT NOT NULL,
    "role" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("source", "target", "role")
);
CREATE INDEX edge_target ON "edge" ("target");

CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until REAL NOT NULL,
    payload TEXT NOT NULL
) WITHOUT ROWID;
