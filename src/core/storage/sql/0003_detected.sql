-- What was read from the content's own files, as JSON; NULL: nobody has looked yet.
ALTER TABLE storage_manifest ADD COLUMN detected TEXT;
