-- What was read from the files of the newest copy that a node told of, as JSON; NULL: nothing yet.
ALTER TABLE registry_model ADD COLUMN detected TEXT;
-- 1: a person said what type it is, and no guess replaces it. What stands there could be either, and stays.
ALTER TABLE registry_model ADD COLUMN typed INTEGER NOT NULL DEFAULT 0 CHECK (typed IN (0, 1));
UPDATE registry_model SET typed = 1 WHERE model_type <> 'unknown';
