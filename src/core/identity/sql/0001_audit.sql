-- Who did what. Rows are only added, and the oldest removed.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  -- 1: nothing was done, because who asked was unknown or not allowed to. Such rows are kept in a smaller number.
  refused INTEGER NOT NULL CHECK (refused IN (0, 1)),
  actor_id TEXT,
  actor_name TEXT,
  actor_role TEXT,
  action TEXT NOT NULL,
  -- JSON object of strings.
  target TEXT NOT NULL,
  status INTEGER NOT NULL,
  reason TEXT,
  address TEXT NOT NULL,
  listener TEXT NOT NULL,
  request_id TEXT NOT NULL
) STRICT;
CREATE INDEX audit_refused ON audit (seq) WHERE refused = 1;
