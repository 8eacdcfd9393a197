-- Tokens of people: a name, who made it, when it was last used. A CHECK cannot be changed in place.
CREATE TABLE token_of_all (
  token_id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('admin', 'node', 'join', 'user')),
  role TEXT NOT NULL,
  secret_sha256 TEXT NOT NULL,
  -- The node that a node bearer is bound to.
  node TEXT,
  created_at REAL NOT NULL,
  expires_at REAL,
  uses_left INTEGER,
  revoked_at REAL,
  -- Of a person's token; one name belongs to one token that is good.
  name TEXT,
  -- Name of the token that made it.
  created_by TEXT,
  -- To the minute.
  last_used_at REAL
) STRICT, WITHOUT ROWID;
INSERT INTO token_of_all (token_id, kind, role, secret_sha256, node, created_at, expires_at, uses_left, revoked_at)
  SELECT token_id, kind, role, secret_sha256, node, created_at, expires_at, uses_left, revoked_at FROM token;
DROP TABLE token;
ALTER TABLE token_of_all RENAME TO token;
CREATE INDEX token_node ON token (node) WHERE node IS NOT NULL;
CREATE INDEX token_name ON token (name) WHERE name IS NOT NULL;

-- Rises with every change of people's tokens; nodes hold what was pushed under a version.
CREATE TABLE auth_version (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL) STRICT;
INSERT INTO auth_version (one, version) VALUES (1, 0);

-- Who submitted a task: a person may cancel what is theirs, once for each submission.
CREATE TABLE task_owner (
  task_id TEXT NOT NULL,
  token_id TEXT NOT NULL,
  -- Tells submissions apart: the Idempotency-Key, or a random word.
  submission TEXT NOT NULL,
  submitted_at REAL NOT NULL,
  cancelled INTEGER NOT NULL DEFAULT 0 CHECK (cancelled IN (0, 1)),
  PRIMARY KEY (task_id, token_id, submission)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_owner_age ON task_owner (submitted_at);
