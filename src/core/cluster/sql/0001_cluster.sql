-- Nodes that joined. What they report from beat to beat is kept in memory only.
CREATE TABLE cluster_node (
  name TEXT PRIMARY KEY,
  public_key TEXT NOT NULL,
  joined_at REAL NOT NULL,
  address TEXT NOT NULL,
  api_port INTEGER NOT NULL DEFAULT 0,
  peer_port INTEGER NOT NULL DEFAULT 0,
  version TEXT NOT NULL DEFAULT '',
  protocol_version INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
