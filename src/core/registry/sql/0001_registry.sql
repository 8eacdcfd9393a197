-- What the cluster knows of models. Locations are what nodes reported, or claims they have not confirmed.
CREATE TABLE registry_model (
  model_name TEXT PRIMARY KEY,
  model_type TEXT NOT NULL,
  model_size INTEGER NOT NULL,
  source_url TEXT,
  metadata TEXT NOT NULL,
  revision TEXT,
  format TEXT,
  created_at REAL NOT NULL,
  -- 1: a download named it, and no node has ever held it; it is not shown once nothing brings it any more.
  implied INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX registry_model_type ON registry_model (model_type, model_name);

CREATE TABLE registry_location (
  model_name TEXT NOT NULL,
  node TEXT NOT NULL,
  tier TEXT NOT NULL,
  revision TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('ready', 'downloading', 'moving', 'unavailable', 'queued')),
  size_bytes INTEGER NOT NULL,
  content_id TEXT,
  -- 1: claimed by a person, not confirmed by the node.
  claimed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (model_name, node, tier, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX registry_location_node ON registry_location (node, tier, model_name);

-- Copies that were deleted while their node was away: they do not come back with its inventory.
CREATE TABLE registry_tombstone (
  model_name TEXT NOT NULL,
  node TEXT NOT NULL,
  tier TEXT NOT NULL,
  revision TEXT NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (model_name, node, tier, revision)
) STRICT, WITHOUT ROWID;
