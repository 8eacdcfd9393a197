-- Where the bytes are: below the tier's root, or where another program put them.
ALTER TABLE storage_copy ADD COLUMN place TEXT NOT NULL DEFAULT 'store' CHECK (place IN ('store', 'adopted'));

CREATE TABLE storage_adoption (
	tier TEXT NOT NULL,
	model_name TEXT NOT NULL,
	revision TEXT NOT NULL,
	kind TEXT NOT NULL,
	-- The import folder, and what in it was adopted; absolute, without links.
	folder TEXT NOT NULL,
	path TEXT NOT NULL,
	-- JSON: [{ path, realPath, identity }]
	files TEXT NOT NULL,
	PRIMARY KEY (tier, model_name, revision)
) STRICT, WITHOUT ROWID;
