CREATE TABLE storage_tier (
	tier TEXT PRIMARY KEY,
	-- What the marker file in the tier's root says.
	store_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE storage_manifest (
	content_id TEXT PRIMARY KEY,
	manifest TEXT NOT NULL
) STRICT;

CREATE TABLE storage_copy (
	tier TEXT NOT NULL,
	model_name TEXT NOT NULL,
	revision TEXT NOT NULL,
	state TEXT NOT NULL CHECK (state IN ('publishing', 'ready', 'unavailable', 'removing')),
	content_id TEXT NOT NULL REFERENCES storage_manifest (content_id),
	size_bytes INTEGER NOT NULL,
	model_type TEXT NOT NULL,
	source_url TEXT,
	format TEXT NOT NULL,
	-- Seconds since the epoch.
	ready_at REAL NOT NULL,
	-- Of volatile tiers: the boot of the machine that the bytes belong to.
	boot_id TEXT,
	PRIMARY KEY (tier, model_name, revision)
) STRICT, WITHOUT ROWID;

CREATE INDEX storage_copy_content ON storage_copy (content_id);

CREATE TABLE storage_staging (
	transfer_id TEXT PRIMARY KEY,
	tier TEXT NOT NULL,
	boot_id TEXT
) STRICT, WITHOUT ROWID;

-- One row: how often the set of copies changed.
CREATE TABLE storage_inventory (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	version INTEGER NOT NULL
) STRICT;

INSERT INTO storage_inventory (id, version) VALUES (1, 1);
