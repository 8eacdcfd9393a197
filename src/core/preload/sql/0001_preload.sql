-- When models were used, by hour of the week, and when people said they will be.
CREATE TABLE preload_use (
	model_name TEXT PRIMARY KEY,
	-- 168 little-endian 32-bit floats: uses in each hour of the week (UTC, from Monday), decayed as of `week`.
	hours BLOB NOT NULL,
	-- Weeks since the epoch's first Monday.
	week INTEGER NOT NULL,
	-- Seconds since the epoch.
	first_at REAL NOT NULL,
	last_at REAL NOT NULL,
	-- Uses of late, decayed as of last_at.
	recent REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE preload_hint (
	model_name TEXT PRIMARY KEY,
	-- Seconds since the epoch.
	from_at REAL NOT NULL,
	until_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
