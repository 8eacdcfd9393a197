-- Limits that were set while the agent ran: of this node ('node'), of all nodes together ('cluster').
CREATE TABLE bandwidth_limit (
	scope TEXT PRIMARY KEY,
	-- Bytes per second; NULL: no limit.
	down INTEGER,
	up INTEGER,
	-- What the configuration said then: where it says something else now, that was said later.
	configured_down INTEGER,
	configured_up INTEGER
) STRICT, WITHOUT ROWID;
