-- Copies that are shown in the layout of Hugging Face's cache, for programs that look there.
CREATE TABLE storage_presented (
	tier TEXT NOT NULL,
	model_name TEXT NOT NULL,
	revision TEXT NOT NULL,
	cache_dir TEXT NOT NULL,
	-- ORG/NAME
	repository TEXT NOT NULL,
	ref TEXT NOT NULL,
	PRIMARY KEY (tier, model_name, revision, cache_dir)
) STRICT, WITHOUT ROWID;
