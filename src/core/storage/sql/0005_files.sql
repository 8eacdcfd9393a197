-- Where a file of these contents may be found, so that it is stored once on a tier: large enough to be worth it.
CREATE TABLE storage_file (
	content_id TEXT NOT NULL,
	path TEXT NOT NULL,
	sha256 TEXT NOT NULL,
	size_bytes INTEGER NOT NULL,
	PRIMARY KEY (content_id, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX storage_file_sha256 ON storage_file (sha256);

INSERT INTO storage_file (content_id, path, sha256, size_bytes)
SELECT m.content_id, json_extract(f.value, '$.path'), json_extract(f.value, '$.sha256'), json_extract(f.value, '$.size_bytes')
FROM storage_manifest m, json_each(m.manifest, '$.files') f
WHERE json_extract(f.value, '$.size_bytes') >= 65536;
