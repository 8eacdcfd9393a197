/**
 * The one parser of names that come from outside. Names are parsed, never cleaned up: what does not match
 * is refused with 400, because a name that was "repaired" in one place and not in another becomes a path.
 */
import { invalid } from "./errors.ts";

declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

/** A checked model name, `name`, `org/name` or `a/b/c`; on disk it is one path component (modelDirName). */
export type ModelName = Branded<string, "ModelName">;
/** A checked node name. */
export type NodeName = Branded<string, "NodeName">;
/** A checked model revision, safe as one path component. */
export type Revision = Branded<string, "Revision">;
/** A checked task id, e.g. `download-llama-7b-k3v9x2ma`. */
export type TaskId = Branded<string, "TaskId">;
/** A checked name of a person's token. */
export type TokenName = Branded<string, "TokenName">;
/** A checked service id. */
export type ServiceId = Branded<string, "ServiceId">;

/** The name by which a cluster's host is met under the cluster's CA, whatever its addresses are. */
export const HOST_SERVER_NAME = "host.gswarm.internal";

const MODEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(\/[A-Za-z0-9][A-Za-z0-9._-]{0,95}){0,2}$/;
const NODE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const REVISION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const TOKEN = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/;
const ID = /^[a-z][a-z0-9]*-[A-Za-z0-9._-]{1,160}$/;

/** Words that follow a model name in a path; no later segment of a name may be one of them. */
export const MODEL_SUB_ROUTES: readonly string[] = [
	"locations",
	"download",
	"move",
	"copy",
	"manifest",
	"pull",
	"verify",
	"pin",
	"unpin",
	"hint",
	"adopt",
	"present",
	"export",
	"import",
	"upload",
	"metadata",
];

/** Whether the text is a model name; see parseModelName for the rule. */
export function isModelName(text: string): boolean {
	return (
		MODEL.test(text) &&
		!text.includes("..") &&
		!text
			.split("/")
			.slice(1)
			.some((segment) => MODEL_SUB_ROUTES.includes(segment))
	);
}

/** @throws 400 bad_model_name */
export function parseModelName(text: string): ModelName {
	if (!isModelName(text)) {
		throw invalid(
			"bad_model_name",
			`${JSON.stringify(text.slice(0, 120))} is not a model name: wanted 1 to 3 segments of letters, digits, ".", "_" and "-", each at most 96 long, joined by "/".`,
			{ field: "model_name" },
		);
	}
	return text as ModelName;
}

/** @throws 400 bad_node_name */
export function parseNodeName(text: string): NodeName {
	if (!NODE.test(text) || text.includes("..")) {
		throw invalid(
			"bad_node_name",
			`${JSON.stringify(text.slice(0, 120))} is not a node name: wanted letters, digits, ".", "_" and "-", at most 63.`,
			{ field: "node" },
		);
	}
	return text as NodeName;
}

/** Words that stand where a node's name could: the host's own queue, and every node at once. */
const RESERVED_NODES: readonly string[] = ["host", "all"];

/** A name that a node may take; parseNodeName reads those that are asked for. @throws 400 bad_node_name */
export function parseNewNodeName(text: string): NodeName {
	const name = parseNodeName(text);
	if (!RESERVED_NODES.includes(name)) return name;
	throw invalid(
		"bad_node_name",
		`${JSON.stringify(text)} cannot be a node's name: it has a meaning of its own.`,
		{ field: "node" },
		"Choose another with `--node NAME`.",
	);
}

/** A token's name or id; parseNewTokenName reads the name of one that is to be made. @throws 400 bad_token_name */
export function parseTokenName(text: string): TokenName {
	if (!TOKEN.test(text) || text.includes("..")) {
		throw invalid(
			"bad_token_name",
			`${JSON.stringify(text.slice(0, 120))} is not a token's name: wanted letters, digits, ".", "_", "@" and "-", at most 63.`,
			{ field: "name" },
		);
	}
	return text as TokenName;
}

/** What the agent itself is called where an actor's name stands. */
const RESERVED_TOKENS: readonly string[] = ["admin", "host"];

/** @throws 400 bad_token_name */
export function parseNewTokenName(text: string): TokenName {
	const name = parseTokenName(text);
	if (!RESERVED_TOKENS.includes(name)) return name;
	throw invalid(
		"bad_token_name",
		`${JSON.stringify(text)} cannot be a token's name: it has a meaning of its own.`,
		{ field: "name" },
		"Name the person or the program that will use it.",
	);
}

/** The agent of this machine, where a context's name stands. */
export const LOCAL_CONTEXT = "local";

/** What a person calls a cluster on their own machine. @throws 400 bad_context_name */
export function parseContextName(text: string): string {
	if (NODE.test(text) && !text.includes("..")) return text;
	throw invalid(
		"bad_context_name",
		`${JSON.stringify(text.slice(0, 120))} is not a context's name: wanted letters, digits, ".", "_" and "-", at most 63.`,
		{ field: "context" },
	);
}

/** @throws 400 bad_revision */
export function parseRevision(text: string): Revision {
	if (!REVISION.test(text) || text.includes("..")) {
		throw invalid(
			"bad_revision",
			`${JSON.stringify(text.slice(0, 140))} is not a revision: wanted letters, digits, ".", "_" and "-", at most 128.`,
			{ field: "revision" },
		);
	}
	return text as Revision;
}

/** @throws 400 bad_task_id */
export function parseTaskId(text: string): TaskId {
	if (!ID.test(text) || text.includes("..")) {
		throw invalid("bad_task_id", `${JSON.stringify(text.slice(0, 120))} is not a task id.`, {
			field: "task_id",
		});
	}
	return text as TaskId;
}

/** @throws 400 bad_service_id */
export function parseServiceId(text: string): ServiceId {
	if (!ID.test(text) || text.includes("..")) {
		throw invalid("bad_service_id", `${JSON.stringify(text.slice(0, 120))} is not a service id.`, {
			field: "service_id",
		});
	}
	return text as ServiceId;
}

/** A model's directory: one path component, so that no model ever lies inside another. */
export function modelDirName(name: ModelName): string {
	return name.replaceAll("/", "%2F");
}
