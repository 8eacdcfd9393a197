/** What the audit log tells of one request. */
import { z } from "zod";

/** Who asked; all null where the credential was none that is known. */
const actorSchema = z.object({
	/** Id of the token; `host` for the host's own calls. */
	id: z.string().nullable(),
	/** Name of the token or node. */
	name: z.string().nullable(),
	role: z.string().nullable(),
});

export const auditEntrySchema = z.object({
	/** Rises with every entry; gaps are entries that were dropped with age. */
	seq: z.number(),
	/** Seconds since the epoch. */
	at: z.number(),
	actor: actorSchema,
	/** Id of the route, as in the API's description; `unknown` where a request was refused before it had one. */
	action: z.string(),
	/** What it was done to: parameters of the path, and device, node and force of the query. Never more. */
	target: z.record(z.string(), z.string()),
	/** HTTP status of the answer. */
	status: z.number(),
	/** `details.reason` of a refusal. */
	reason: z.string().nullable(),
	/** IP address of the other end. */
	address: z.string(),
	/** Which listener was asked: host, node, peer, or service for a served model's own port. */
	listener: z.string(),
	request_id: z.string(),
});
export type AuditEntry = z.output<typeof auditEntrySchema>;
