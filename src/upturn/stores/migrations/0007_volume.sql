-- The least and the greatest of a metric beside its last, so that a search by them reads one index;
-- and runs that were removed.

DROP INDEX series_last;
CREATE INDEX series_last ON series (name, last, run, low, high);
CREATE INDEX run_now_removed ON run_now (removed_at) WHERE removed_at IS NOT NULL;

-- Runs that are being deleted for good, by stores/tracking/forget.py: what is left of them goes, too.

CREATE TABLE forgetting (
    run TEXT PRIMARY KEY
) WITHOUT ROWID;
