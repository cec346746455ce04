-- Tags of models as they were set, and models and versions as searches see them.

CREATE TABLE "tagging" (
    put_order INTEGER PRIMARY KEY,
    "path" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE ("path", "seq")
);

-- What the last records say of each: see stores/registry_projection.py. Times are microseconds.

CREATE TABLE model_now (
    name TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    shown INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX model_now_updated ON model_now (updated_at, name);

CREATE TABLE version_now (
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    run TEXT NOT NULL,
    source TEXT NOT NULL,
    stage TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    shown INTEGER NOT NULL,
    PRIMARY KEY (model, number)
) WITHOUT ROWID;
CREATE INDEX version_now_updated ON version_now (updated_at DESC, model, number DESC);
CREATE INDEX version_now_created ON version_now (created_at, model, number DESC);
CREATE INDEX version_now_run ON version_now (run);
CREATE INDEX version_now_stage ON version_now (model, stage, number);

-- Those from before there were these tables come in by stores/registry_projection.py.
