-- Whose the bytes of a location are; an adopted one is no reason to destroy another.
ALTER TABLE registry_location ADD COLUMN place TEXT NOT NULL DEFAULT 'store' CHECK (place IN ('store', 'adopted'));
-- What on its node was adopted.
ALTER TABLE registry_location ADD COLUMN adopted_from TEXT;
