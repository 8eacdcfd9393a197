CREATE TABLE transfer (
	transfer_id TEXT PRIMARY KEY,
	tier TEXT NOT NULL,
	-- Pins what the parts are parts of: rows of another source are never used.
	source_id TEXT NOT NULL,
	-- What it needs on its tier, also while it waits to be run again.
	room_bytes INTEGER NOT NULL,
	-- The boot in which the bytes were written; after another one every part is read again before its row counts.
	boot_id TEXT,
	started_over INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- A part whose bytes are in the staged file.
CREATE TABLE transfer_part (
	transfer_id TEXT NOT NULL REFERENCES transfer (transfer_id) ON DELETE CASCADE,
	file_index INTEGER NOT NULL,
	part_index INTEGER NOT NULL,
	xxh64 TEXT NOT NULL,
	-- Milliseconds since the epoch: whether an attempt that died had got anywhere.
	landed_at_ms REAL NOT NULL,
	PRIMARY KEY (transfer_id, file_index, part_index)
) STRICT, WITHOUT ROWID;

-- A file that is whole and was compared with what its source claims.
CREATE TABLE transfer_file (
	transfer_id TEXT NOT NULL REFERENCES transfer (transfer_id) ON DELETE CASCADE,
	file_index INTEGER NOT NULL,
	size_bytes INTEGER NOT NULL,
	sha256 TEXT NOT NULL,
	-- XXH64 of the parts, 16 hex digits each.
	xxh64 TEXT NOT NULL,
	PRIMARY KEY (transfer_id, file_index)
) STRICT;
