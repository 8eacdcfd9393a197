/** What the audit log holds, as pure functions: every change that a credential asked for, and every refusal of one. */
import { redactSecrets } from "../../platform/redact.ts";
import type { NeededRole } from "./roles.ts";

/** One answered request, as the listener saw it. */
export interface AuditEvent {
	/** host, node, peer or service. */
	listener: string;
	/** Id of the route; undefined where the request was refused before it had one. */
	action: string | undefined;
	/** Whom the route is for. */
	needs: NeededRole | undefined;
	method: string;
	caller: AuditCaller | undefined;
	/** Whether a credential came along, good or not. */
	tried: boolean;
	/** Parameters of the path, and fields that the contract allows to be told. Never a secret. */
	target: Readonly<Record<string, string>>;
	status: number;
	/** `details.reason` of an error. */
	reason: string | undefined;
	address: string;
	requestId: string;
}

export interface AuditCaller {
	id: string;
	role: string;
	/** Set for a node. */
	node?: string | undefined;
	/** The name that a person's token was given. */
	name?: string | undefined;
}

/** act: it is recorded. refusal: so is it. first-refusal: only the first within a window, by address and reason. */
export type Recording = "none" | "act" | "refusal" | "first-refusal";

/** Said by the hundred every minute; they change nothing that somebody would look for. */
const UNRECORDED: readonly string[] = ["heartbeat"];
const READING: readonly string[] = ["GET", "HEAD"];
/** Using a model, and reading the parts of one, is not changing it. */
const USES: readonly (NeededRole | undefined)[] = ["inference", "grant", "public"];

/** Whether and how a request is recorded. */
export function recordingOf(event: AuditEvent): Recording {
	const { status, caller, needs, action, method, reason } = event;
	if (status === 403) return caller === undefined ? "first-refusal" : "refusal";
	if (status === 401 && (event.tried || reason === "join_refused")) return "first-refusal";
	if (status === 429 && caller === undefined) return "first-refusal";
	if (READING.includes(method) || USES.includes(needs)) return "none";
	if (action === undefined || UNRECORDED.includes(action)) return "none";
	// What the host asks of a node it asks for somebody, who stands in its own log.
	if (caller?.role === "host") return "none";
	if (caller !== undefined) return "act";
	if (needs !== "join") return "none";
	// Anybody may try to join, as often as they have addresses: that must not push out what was done.
	return status < 400 ? "act" : "first-refusal";
}

const MAX_TARGETS = 8;
const MAX_TEXT = 200;

/** The target as it is stored: bounded, without control characters. */
export function boundedTarget(target: Readonly<Record<string, string>>): Record<string, string> {
	const bounded = Object.entries(target)
		.slice(0, MAX_TARGETS)
		.map(([key, text]) => [key, boundedText(text)] as const);
	return Object.fromEntries(bounded);
}

/** Text from outside, short, on one line, and without what somebody pasted into the wrong place. */
export function boundedText(text: string): string {
	return redactSecrets(text.slice(0, 4 * MAX_TEXT))
		.slice(0, MAX_TEXT)
		.replaceAll(/\p{Cc}/gu, "�");
}
