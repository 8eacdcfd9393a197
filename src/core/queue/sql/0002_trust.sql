-- Room in bytes, tokens of dispatched work, retries by hand, settings that change at run time; fewer indices.

-- Bytes of a tier that a running task may fill; 0 for a hold on a thing.
ALTER TABLE queue_reservation ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0);
ALTER TABLE queue_planted ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0);
-- Of the reservation that the task is parked on.
ALTER TABLE queue_task ADD COLUMN parked_bytes INTEGER NOT NULL DEFAULT 0;
-- The operation of the host that this task does a part of; NULL for work that was asked for here.
ALTER TABLE queue_task ADD COLUMN operation_id TEXT;
-- The pair that says who may still write for it: of the dispatch that made the task, or of the last one it made.
ALTER TABLE queue_task ADD COLUMN fence_epoch INTEGER;
ALTER TABLE queue_task ADD COLUMN fence_n INTEGER;
-- The failed or cancelled task that this one does again. The check stands for the trigger on inserts: nothing is what
-- only a claim makes of it before it was claimed.
ALTER TABLE queue_task ADD COLUMN retry_of INTEGER
	CHECK (token > 0 OR state IN ('pending', 'blocked', 'failed', 'cancelled'));
DROP TRIGGER queue_task_starts_live;

CREATE INDEX queue_operation ON queue_task (queue, operation_id, seq) WHERE operation_id IS NOT NULL;
CREATE INDEX queue_dispatched ON queue_task (queue, seq) WHERE operation_id IS NOT NULL AND completed_at_ms IS NULL;
CREATE INDEX queue_retried ON queue_task (retry_of) WHERE retry_of IS NOT NULL;

-- One index serves every page of the history: each state is a line of its own, and all of them are merged.
CREATE INDEX queue_finished ON queue_task (queue, state, completed_at_ms, seq, type) WHERE completed_at_ms IS NOT NULL;
DROP INDEX queue_done;
DROP INDEX queue_done_state;
-- Events are read in the order of their ids.
DROP INDEX queue_event_of;

-- The guards as they were, each change looked at once: a trigger that reads the old row costs as much as the change.
DROP TRIGGER queue_task_legal;
DROP TRIGGER queue_task_terminal;
CREATE TRIGGER queue_task_legal BEFORE UPDATE ON queue_task
WHEN OLD.completed_at_ms IS NOT NULL OR (OLD.state <> NEW.state AND NOT CASE OLD.state
	WHEN 'pending' THEN NEW.state = 'running' OR NEW.state = 'cancelled'
	WHEN 'running' THEN NEW.state = 'completed' OR NEW.state = 'retry_wait' OR NEW.state = 'failed'
		OR NEW.state = 'cancelling' OR NEW.state = 'pending'
	WHEN 'cancelling' THEN NEW.state = 'cancelled' OR NEW.state = 'completed' OR NEW.state = 'failed'
	WHEN 'blocked' THEN NEW.state = 'pending' OR NEW.state = 'failed' OR NEW.state = 'cancelled'
	WHEN 'retry_wait' THEN NEW.state = 'pending' OR NEW.state = 'cancelled'
	ELSE 0
END)
BEGIN
	SELECT CASE WHEN OLD.completed_at_ms IS NOT NULL THEN RAISE(ABORT, 'a finished task never changes')
		ELSE RAISE(ABORT, 'a task cannot change its state so') END;
END;

-- Tasks are counted in memory.
DROP TRIGGER queue_count_insert;
DROP TRIGGER queue_count_update;
DROP TRIGGER queue_count_delete;
DROP TABLE queue_counter;

-- What was changed at run time; without a row the configuration of the agent counts.
CREATE TABLE queue_setting (
	queue TEXT PRIMARY KEY,
	max_concurrent_tasks INTEGER NOT NULL CHECK (max_concurrent_tasks >= 1),
	-- JSON, the most urgent first.
	priority_levels TEXT NOT NULL,
	resource_tracking INTEGER NOT NULL CHECK (resource_tracking IN (0, 1))
) STRICT, WITHOUT ROWID;
