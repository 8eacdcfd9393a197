/**
 * Bounds of everything that comes in through a listener or is read from a person's file: one place, so that they can
 * be compared. Bounds of one mechanism (parts, archives, queues) stand in its room.
 * Bun itself refuses, without a body: a request whose first line and headers are larger than 16 KiB or more than 200
 * (431), and a head that is not whole after 12 s (closed).
 */

/** JSON of people. */
export const MAX_JSON_BYTES = 1024 * 1024;
/** JSON of agents: a heartbeat may carry a whole inventory. */
export const MAX_INTERNAL_JSON_BYTES = 64 * MAX_JSON_BYTES;
/** JSON of somebody who has no token yet. */
export const MAX_OPEN_JSON_BYTES = 64 * 1024;
export const MAX_JSON_DEPTH = 32;
/** Requests of OpenAI's clients, with pictures and tools, whose parameters are schemas in schemas. */
export const MAX_GATEWAY_BYTES = 64 * 1024 * 1024;
export const MAX_GATEWAY_DEPTH = 128;
export const MAX_JSON_KEYS = 10_000;

export const MAX_YAML_BYTES = 1024 * 1024;
export const MAX_YAML_DEPTH = 64;
/** Of the lexer; reading so many takes about a second. */
export const MAX_YAML_TOKENS = 750_000;
export const MAX_YAML_ALIASES = 100;
/** Once every alias has been written out. */
export const MAX_YAML_VALUES = 500_000;

/** Path and query. */
export const MAX_URL_BYTES = 16 * 1024;
export const MAX_QUERY_PARAMETERS = 64;
export const MAX_REQUEST_ID_CHARACTERS = 64;
export const MAX_BEARER_CHARACTERS = 4096;
/** Proxies in a row that X-Forwarded-For is followed through. */
export const MAX_FORWARDED_HOPS = 16;

/** A body that stays below this rate for the whole window is given up. */
export const SLOW_BODY_BYTES_PER_SECOND = 1000;
export const SLOW_BODY_WINDOW_MS = 30_000;

export const RATE_WINDOW_MS = 60_000;
export const MAX_FAILED_LOGINS = 20;
export const MAX_JOINS = 10;
/** Addresses that a counter keeps; the one heard of longest ago is forgotten first. */
export const MAX_COUNTED_ADDRESSES = 10_000;

/** Characters of one text in a line of the log. */
export const MAX_LOGGED_CHARACTERS = 8_192;
