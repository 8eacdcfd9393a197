-- Addresses beside the one that the node calls from: JSON lists of what it asks for, and of what an admin approved.
ALTER TABLE cluster_node ADD COLUMN asked_addresses TEXT NOT NULL DEFAULT '[]';
ALTER TABLE cluster_node ADD COLUMN approved_addresses TEXT NOT NULL DEFAULT '[]';

-- Nodes that wait for an admin; an approved one becomes a node when it asks again.
CREATE TABLE cluster_waiting (
  name TEXT PRIMARY KEY,
  public_key TEXT NOT NULL,
  asked_at REAL NOT NULL,
  address TEXT NOT NULL,
  version TEXT NOT NULL,
  protocol_version INTEGER NOT NULL,
  asked_addresses TEXT NOT NULL,
  -- NULL until an admin approved it.
  approved_addresses TEXT
) STRICT, WITHOUT ROWID;
