-- Tasks of a node and operations of a host; `queue` says which. Every other table here hangs on queue_task.seq.

CREATE TABLE queue_epoch (
	queue TEXT PRIMARY KEY,
	-- Rises at every open; rows that run under a lower one belong to a dead process.
	epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE queue_task (
	-- Order of submission; FIFO inside a priority.
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	queue TEXT NOT NULL CHECK (queue IN ('node', 'host')),
	task_id TEXT NOT NULL UNIQUE,
	type TEXT NOT NULL,
	model TEXT NOT NULL,
	-- 0 critical, 1 high, 2 normal, 3 low.
	rank INTEGER NOT NULL CHECK (rank BETWEEN 0 AND 3),
	state TEXT NOT NULL,
	-- JSON, without secrets.
	request TEXT NOT NULL,
	-- JSON as the API shows it.
	resources TEXT NOT NULL,
	-- JSON [{ key, mode }], merged and sorted; taken at the claim.
	reservations TEXT NOT NULL,
	size_bytes INTEGER,
	open_dependencies INTEGER NOT NULL CHECK (open_dependencies >= 0),
	join_key TEXT,
	-- Submits that wait for this task; a cancel takes one away.
	waiters INTEGER NOT NULL DEFAULT 1 CHECK (waiters >= 1),
	attempt INTEGER NOT NULL DEFAULT 0,
	max_attempts INTEGER NOT NULL,
	-- Deaths of the agent in mid-task without any progress.
	crashes INTEGER NOT NULL DEFAULT 0,
	-- Rises with every claim; who writes with an older one is no longer the owner.
	token INTEGER NOT NULL DEFAULT 0,
	-- Of the process that runs it; NULL when nobody does.
	epoch INTEGER,
	-- 1 when the checkpoint changed since the claim.
	progressed INTEGER NOT NULL DEFAULT 0,
	run_at_ms INTEGER,
	-- Since when the task waits for room on a tier.
	space_wait_since_ms INTEGER,
	-- The reservation that another task holds; a parked task is not in the line that a claim reads.
	parked_on TEXT,
	parked_mode TEXT,
	-- First time it was parked since it last ran.
	parked_at_ms INTEGER,
	-- How often a younger task took what it waits for.
	bypassed INTEGER NOT NULL DEFAULT 0,
	phase TEXT NOT NULL,
	bytes_done INTEGER NOT NULL DEFAULT 0,
	bytes_total INTEGER NOT NULL DEFAULT 0,
	-- JSON of the handler.
	checkpoint TEXT,
	result TEXT,
	error TEXT,
	created_at_ms INTEGER NOT NULL,
	started_at_ms INTEGER,
	completed_at_ms INTEGER,
	CHECK (attempt BETWEEN 0 AND max_attempts),
	CHECK ((state = 'blocked') = (open_dependencies > 0) OR state IN ('failed', 'cancelled')),
	CHECK ((epoch IS NOT NULL) = (state IN ('running', 'cancelling'))),
	CHECK ((run_at_ms IS NOT NULL) = (state = 'retry_wait')),
	CHECK (parked_on IS NULL OR state = 'pending'),
	CHECK ((completed_at_ms IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled')))
) STRICT;

-- What a claim reads: the line of each priority.
CREATE INDEX queue_ready ON queue_task (queue, rank, seq) WHERE state = 'pending' AND parked_on IS NULL;
CREATE INDEX queue_parked ON queue_task (queue, parked_on, rank, seq) WHERE parked_on IS NOT NULL;
CREATE INDEX queue_retry ON queue_task (queue, run_at_ms) WHERE run_at_ms IS NOT NULL;
CREATE INDEX queue_running ON queue_task (queue, seq) WHERE epoch IS NOT NULL;
CREATE INDEX queue_live ON queue_task (queue, rank, seq) WHERE completed_at_ms IS NULL;
CREATE INDEX queue_joinable ON queue_task (queue, join_key) WHERE join_key IS NOT NULL AND completed_at_ms IS NULL;
CREATE INDEX queue_done ON queue_task (queue, completed_at_ms, seq) WHERE completed_at_ms IS NOT NULL;
CREATE INDEX queue_done_state ON queue_task (queue, state, completed_at_ms, seq) WHERE completed_at_ms IS NOT NULL;

CREATE TRIGGER queue_task_starts_live BEFORE INSERT ON queue_task
WHEN NEW.state NOT IN ('blocked', 'pending')
BEGIN
	SELECT RAISE(ABORT, 'a task begins blocked or pending');
END;

CREATE TRIGGER queue_task_terminal BEFORE UPDATE ON queue_task
WHEN OLD.completed_at_ms IS NOT NULL
BEGIN
	SELECT RAISE(ABORT, 'a finished task never changes');
END;

CREATE TRIGGER queue_task_legal BEFORE UPDATE OF state ON queue_task
WHEN OLD.state <> NEW.state AND OLD.state || '>' || NEW.state NOT IN (
	'blocked>pending', 'blocked>failed', 'blocked>cancelled',
	'pending>running', 'pending>cancelled',
	'retry_wait>pending', 'retry_wait>cancelled',
	'running>completed', 'running>retry_wait', 'running>failed', 'running>cancelling', 'running>pending',
	'cancelling>cancelled', 'cancelling>completed', 'cancelling>failed'
)
BEGIN
	SELECT RAISE(ABORT, 'a task cannot change its state so');
END;

-- Counted as rows come, go and change, so that no count ever reads the table.
CREATE TABLE queue_counter (
	queue TEXT NOT NULL,
	state TEXT NOT NULL,
	rank INTEGER NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (queue, state, rank)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER queue_count_insert AFTER INSERT ON queue_task
BEGIN
	INSERT INTO queue_counter (queue, state, rank, count) VALUES (NEW.queue, NEW.state, NEW.rank, 1)
		ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER queue_count_update AFTER UPDATE OF state, rank ON queue_task
WHEN OLD.state <> NEW.state OR OLD.rank <> NEW.rank
BEGIN
	UPDATE queue_counter SET count = count - 1 WHERE queue = OLD.queue AND state = OLD.state AND rank = OLD.rank;
	INSERT INTO queue_counter (queue, state, rank, count) VALUES (NEW.queue, NEW.state, NEW.rank, 1)
		ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER queue_count_delete AFTER DELETE ON queue_task
BEGIN
	UPDATE queue_counter SET count = count - 1 WHERE queue = OLD.queue AND state = OLD.state AND rank = OLD.rank;
END;

CREATE TABLE queue_dependency (
	seq INTEGER NOT NULL REFERENCES queue_task (seq) ON DELETE CASCADE,
	-- Always an older task, so that there is no circle.
	depends_on INTEGER NOT NULL CHECK (depends_on < seq),
	PRIMARY KEY (seq, depends_on)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_dependent ON queue_dependency (depends_on, seq);

-- What running tasks hold.
CREATE TABLE queue_reservation (
	queue TEXT NOT NULL,
	key TEXT NOT NULL,
	seq INTEGER NOT NULL REFERENCES queue_task (seq) ON DELETE CASCADE,
	mode TEXT NOT NULL CHECK (mode IN ('shared', 'exclusive')),
	PRIMARY KEY (queue, key, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_reservation_of ON queue_reservation (seq);

-- What tasks that waited too long will take: younger tasks respect it as if it were held.
CREATE TABLE queue_planted (
	queue TEXT NOT NULL,
	key TEXT NOT NULL,
	seq INTEGER NOT NULL REFERENCES queue_task (seq) ON DELETE CASCADE,
	mode TEXT NOT NULL CHECK (mode IN ('shared', 'exclusive')),
	PRIMARY KEY (queue, key, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_planted_by ON queue_planted (seq);

-- Every change of state, in the transaction that made it.
CREATE TABLE queue_event (
	id INTEGER PRIMARY KEY,
	seq INTEGER NOT NULL,
	at_ms INTEGER NOT NULL,
	-- NULL for the submit.
	from_state TEXT,
	to_state TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	-- Why, in one word of ours: crash, shutdown, disk_full, dependency_failed, …
	reason TEXT
) STRICT;
CREATE INDEX queue_event_of ON queue_event (seq, id);

CREATE TABLE queue_idempotency (
	queue TEXT NOT NULL,
	key TEXT NOT NULL,
	task_id TEXT NOT NULL,
	-- sha256 of what was asked for.
	body_sha256 TEXT NOT NULL,
	expires_at_ms INTEGER NOT NULL,
	PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_idempotency_expiry ON queue_idempotency (expires_at_ms);

-- Moving averages of what completed tasks took.
CREATE TABLE queue_measure (
	queue TEXT NOT NULL,
	type TEXT NOT NULL,
	duration_ms REAL NOT NULL,
	-- 0 when no task of the type moved bytes yet.
	rate_bytes_per_second REAL NOT NULL,
	samples INTEGER NOT NULL,
	PRIMARY KEY (queue, type)
) STRICT, WITHOUT ROWID;
