-- What eviction looks at. Seconds since the epoch; NULL: not used since it is there.
ALTER TABLE storage_copy ADD COLUMN last_used_at REAL;
ALTER TABLE storage_copy ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
-- Whether somebody asked for the copy, or a forecast brought it.
ALTER TABLE storage_copy ADD COLUMN purpose TEXT NOT NULL DEFAULT 'asked' CHECK (purpose IN ('asked', 'preload'));
