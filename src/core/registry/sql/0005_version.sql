-- One row: how often models or locations changed, so that what was read of them can be kept meanwhile.
CREATE TABLE registry_version (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
) STRICT;
INSERT INTO registry_version (id, version) VALUES (1, 1);
