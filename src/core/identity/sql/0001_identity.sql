-- Bearers and join secrets; only sha256 of a secret is kept.
CREATE TABLE token (
  token_id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('admin', 'node', 'join')),
  role TEXT NOT NULL,
  secret_sha256 TEXT NOT NULL,
  -- The node that a node bearer is bound to.
  node TEXT,
  created_at REAL NOT NULL,
  expires_at REAL,
  uses_left INTEGER,
  revoked_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_node ON token (node) WHERE node IS NOT NULL;
