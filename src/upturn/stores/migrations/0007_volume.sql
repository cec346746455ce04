-- Runs by the least and the greatest of a metric, as by its last; and those that were removed.

CREATE INDEX series_low ON series (name, low, run);
CREATE INDEX series_high ON series (name, high, run);
CREATE INDEX run_now_removed ON run_now (removed_at) WHERE removed_at IS NOT NULL;
