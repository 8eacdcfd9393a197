-- Tasks of other queues that a task waits for; who knows them tells how they ended.
CREATE TABLE queue_awaited (
	seq INTEGER NOT NULL REFERENCES queue_task (seq) ON DELETE CASCADE,
	task_id TEXT NOT NULL,
	-- Whose queue it is in.
	place TEXT NOT NULL,
	state TEXT NOT NULL CHECK (state IN ('pending', 'completed', 'failed', 'cancelled')),
	PRIMARY KEY (seq, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_awaited_open ON queue_awaited (task_id, seq) WHERE state = 'pending';
