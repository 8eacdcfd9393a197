-- As the node says: the copy is never evicted.
ALTER TABLE registry_location ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
