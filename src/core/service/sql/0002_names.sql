-- The name that requests ask for besides MODEL@REVISION; NULL: none. A name can go from one service to another.
ALTER TABLE service ADD COLUMN served_name TEXT;
UPDATE service SET served_name = model_name;
