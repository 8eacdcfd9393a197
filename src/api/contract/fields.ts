/** Fields that several routes share. */
import { z } from "zod";
import { compressionSchema } from "../../schema/compression.ts";
import { PRIORITIES, submittedSchema } from "../../schema/task.ts";

export const HOST = ["host"] as const;
export const NODE = ["node"] as const;
export const BOTH = ["host", "node"] as const;
export const PEER = ["peer"] as const;

/** Query flags: exactly `true` or `false`. */
export const flag = z.enum(["true", "false"]).transform((text) => text === "true");
export const name = z.string().min(1).max(400);
export const device = z.string().min(1).max(160);
/** Bytes per second, at least 1 kB. */
export const bandwidth = z.number().int().min(1000);
export const revision = z.string().min(1).max(128);
export const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
/** Of what goes from node to node. */
export const compression = compressionSchema.default("auto");
export const priority = z.enum(PRIORITIES).default("normal");

/** Tasks of the same queue that have to complete first. How many there may be, and which, the queue says. */
export const dependencies = z.array(z.string().min(1).max(200)).max(1000).optional();

export const submittedOn = submittedSchema.extend({ node: z.string() });

/** A whole number of a query. In decimal digits alone: `0x10`, `1e2`, `+5` and ` 5` are somebody's mistake. */
export function queryInteger({ min, max, fallback }: { min: number; max: number; fallback: number }) {
	const number = z.number("wanted a whole number in decimal digits").int().min(min).max(max);
	// The inner default is for the documents, the outer one lets callers leave it out.
	return z
		.preprocess((text) => decimal(text, /^-?(0|[1-9]\d{0,15})$/), number.default(fallback))
		.default(fallback);
}

/** As queryInteger, by a schema that stands elsewhere. */
export function queryNumber<S extends z.ZodNumber>(schema: S) {
	return z.preprocess((text) => decimal(text, /^-?(0|[1-9]\d{0,15})$/), schema);
}

/** A point in time in a query: seconds since the epoch, perhaps with a fraction. */
export const querySeconds = z
	.preprocess(
		(text) => decimal(text, /^-?(0|[1-9]\d{0,15})(\.\d{1,9})?$/),
		z.number("wanted seconds since the epoch in decimal digits").nonnegative().max(1e12),
	)
	.optional();

function decimal(text: unknown, form: RegExp): unknown {
	return typeof text === "string" && form.test(text) ? Number(text) : text;
}
