-- Services of this node; one row each, one engine instance each. A row stands as long as the service is wanted.
CREATE TABLE service (
  service_id TEXT PRIMARY KEY,
  model_name TEXT NOT NULL,
  revision TEXT NOT NULL,
  tier TEXT NOT NULL,
  model_path TEXT NOT NULL,
  framework TEXT NOT NULL,
  port INTEGER CHECK (port BETWEEN 1 AND 65535),
  config TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('starting', 'ready', 'unhealthy', 'stopping', 'stopped', 'failed')),
  created_at REAL NOT NULL,
  -- The process. The instance id is written before it is started, the rest after.
  instance_id TEXT,
  pid INTEGER,
  start_time TEXT,
  boot_id TEXT,
  base_url TEXT,
  started_at REAL,
  ready_s REAL,
  restarts INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  error TEXT
) STRICT, WITHOUT ROWID;
