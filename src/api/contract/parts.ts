/** Parts of operations: what a host and its nodes ask each other about work that the one dispatched to the other. */
import { z } from "zod";
import { operationTokenSchema } from "../../schema/operation.ts";
import { taskSchema } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { HOST, NODE, queryNumber } from "./fields.ts";

const { host_epoch: epoch, n, operation } = operationTokenSchema.shape;
const tokenQuery = z.strictObject({
	operation,
	host_epoch: queryNumber(epoch),
	n: queryNumber(n),
});
/** How a part stands on a node, under the token that was sent; null: the node knows nothing of it. */
const standing = operationTokenSchema.extend({ task: taskSchema.nullable(), lease_s: z.number() });

export const partsRoutes = {
	followPart: {
		method: "GET",
		path: "/api/v1/parts",
		summary: "The host renews the lease of a part of an operation, and hears how it stands",
		role: "host",
		on: NODE,
		internal: true,
		query: tokenQuery,
		status: 200,
		response: standing,
	},
	revokePart: {
		method: "POST",
		path: "/api/v1/parts/revoke",
		summary: "The host ends a part of an operation, or sees to it that it never begins",
		role: "host",
		on: NODE,
		internal: true,
		body: operationTokenSchema,
		status: 200,
		response: standing,
	},
	confirmPart: {
		method: "GET",
		path: "/api/v1/parts",
		summary: "A node asks whether a part of an operation still is to be done",
		role: "node",
		on: HOST,
		internal: true,
		query: tokenQuery,
		status: 200,
		response: z.object({ lease_s: z.number() }),
	},
} as const satisfies Record<string, Route>;
