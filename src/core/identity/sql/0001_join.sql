-- Which node spent which join secret, so that asking again with the same key spends nothing.
CREATE TABLE join_use (
  token_id TEXT NOT NULL,
  node TEXT NOT NULL,
  public_key TEXT NOT NULL,
  used_at REAL NOT NULL,
  PRIMARY KEY (token_id, node, public_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX join_use_node ON join_use (node);

-- Join strings whose nodes an admin has to approve.
CREATE TABLE join_approval (
  token_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
