-- Small files of a sealed manifest that came together: all of `first_file` up to, not including, `end_file` are there,
-- and are what the manifest says.
CREATE TABLE transfer_run (
	transfer_id TEXT NOT NULL REFERENCES transfer (transfer_id) ON DELETE CASCADE,
	first_file INTEGER NOT NULL,
	end_file INTEGER NOT NULL CHECK (end_file > first_file),
	-- Milliseconds since the epoch, as of transfer_part.
	landed_at_ms REAL NOT NULL,
	PRIMARY KEY (transfer_id, first_file)
) STRICT, WITHOUT ROWID;
