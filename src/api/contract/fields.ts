/** Fields that several routes share. */
import { z } from "zod";
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
export const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
export const priority = z.enum(PRIORITIES).default("normal");

export const submittedOn = submittedSchema.extend({ node: z.string() });
