-- Names of groups and models, what runs say of themselves, and runs as lists and searches see them.

CREATE TABLE "group" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "name" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id", "seq")
);
CREATE INDEX group_name ON "group" ("name");

CREATE TABLE "model" (
    put_order INTEGER PRIMARY KEY,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("name", "seq")
);

CREATE TABLE "description" (
    put_order INTEGER PRIMARY KEY,
    "path" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("path", "seq")
);

CREATE TABLE "removal" (
    put_order INTEGER PRIMARY KEY,
    "path" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("path", "seq")
);

-- What the last records say of each run and group: see stores/projection.py. Times are microseconds.

CREATE TABLE run_now (
    number INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    flow TEXT NOT NULL,
    "group" TEXT NOT NULL,
    project TEXT NOT NULL,
    who TEXT NOT NULL,
    source TEXT NOT NULL,
    parent TEXT,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    removed_at INTEGER
);
CREATE INDEX run_now_group ON run_now ("group", started_at);
CREATE INDEX run_now_project ON run_now (project, started_at);
CREATE INDEX run_now_started ON run_now (started_at);
CREATE INDEX run_now_parent ON run_now (parent);

CREATE TABLE group_now (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    UNIQUE (project, name)
) WITHOUT ROWID;

CREATE TABLE param (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    number REAL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX param_value ON param (name, value, run);
CREATE INDEX param_number ON param (name, number, run);

CREATE TABLE tag (
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    number REAL,
    PRIMARY KEY (path, name)
) WITHOUT ROWID;
CREATE INDEX tag_value ON tag (name, value, path);
CREATE INDEX tag_number ON tag (name, number, path);

-- A metric of a run in a few numbers, with NULL for NaN; see stores/tracking/points.py for the rest.

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    last REAL,
    step INTEGER NOT NULL,
    at INTEGER NOT NULL,
    low REAL,
    high REAL,
    count INTEGER NOT NULL
);
CREATE UNIQUE INDEX series_key ON series (run, name, scope);
CREATE INDEX series_last ON series (name, last, run);

-- The points of one call, of any of the run's series: `until` counts the run's loose points so far.

CREATE TABLE point_batch (
    run TEXT NOT NULL,
    number INTEGER NOT NULL,
    until INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (run, number)
);

-- Many points of one series, in order, by columns.

CREATE TABLE point_pack (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    count INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX point_pack_series ON point_pack (series, first_step, first_at, id);

CREATE TABLE run_file (
    run TEXT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    media TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE INDEX run_file_digest ON run_file (digest);

-- Runs and metrics from before there were these tables come in by stores/tracking/carry.py.

-- Datasets and logged models that runs used and made, as they said.

CREATE TABLE "dataset_use" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "group" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "digest" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "seq")
);
CREATE INDEX dataset_use_group ON "dataset_use" ("group");
CREATE INDEX dataset_use_name ON "dataset_use" ("name");
CREATE INDEX dataset_use_digest ON "dataset_use" ("digest");

CREATE TABLE "model_use" (
    put_order INTEGER PRIMARY KEY,
    "run" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "model" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("run", "seq")
);
CREATE INDEX model_use_model ON "model_use" ("model");

-- Tokens, sessions of browsers, and what was changed by whom.

CREATE TABLE "token" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "hash" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id", "seq")
);
CREATE INDEX token_hash ON "token" ("hash");

CREATE TABLE "session" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id", "seq")
);

CREATE TABLE "audit" (
    put_order INTEGER PRIMARY KEY,
    "seq" INTEGER NOT NULL,
    "at" INTEGER NOT NULL,
    "who" TEXT NOT NULL,
    "path" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("seq")
);
CREATE INDEX audit_at ON "audit" ("at");
CREATE INDEX audit_who ON "audit" ("who");
CREATE INDEX audit_path ON "audit" ("path");

-- The registry: rules of models, and MLflow's stages.

CREATE TABLE "protection" (
    put_order INTEGER PRIMARY KEY,
    "model" TEXT NOT NULL,
    "alias" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("model", "alias", "seq")
);

CREATE TABLE "proposal" (
    put_order INTEGER PRIMARY KEY,
    "model" TEXT NOT NULL,
    "alias" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("model", "alias", "seq")
);

CREATE TABLE "stage" (
    put_order INTEGER PRIMARY KEY,
    "model" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("model", "number", "seq")
);

-- What is started when, and who is told of what happens.

CREATE TABLE "schedule" (
    put_order INTEGER PRIMARY KEY,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("name", "seq")
);

CREATE TABLE "tick" (
    put_order INTEGER PRIMARY KEY,
    "schedule" TEXT NOT NULL,
    "cause" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "run" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("schedule", "cause", "seq")
);
CREATE INDEX tick_run ON "tick" ("run");

CREATE TABLE "position" (
    put_order INTEGER PRIMARY KEY,
    "reader" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("reader", "kind", "seq")
);

CREATE TABLE "hook" (
    put_order INTEGER PRIMARY KEY,
    "name" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("name", "seq")
);

CREATE TABLE "delivery" (
    put_order INTEGER PRIMARY KEY,
    "hook" TEXT NOT NULL,
    "event" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("hook", "event", "seq")
);

-- What MLflow's clients log: models and traces.

CREATE TABLE "logged_model" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "group" TEXT NOT NULL,
    "run" TEXT,
    body TEXT NOT NULL,
    UNIQUE ("id")
);

CREATE INDEX logged_model_group ON "logged_model" ("group");

CREATE INDEX logged_model_run ON "logged_model" ("run");

CREATE TABLE "logged_model_state" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id", "seq")
);

CREATE TABLE "trace" (
    put_order INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "group" TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("id", "seq")
);

CREATE INDEX trace_group ON "trace" ("group");

-- Puts that came over a connection that may break: sent again, they count once. See stores/once.py.

CREATE TABLE receipt (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    numbers TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX receipt_at ON receipt (at);
