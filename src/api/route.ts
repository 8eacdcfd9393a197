/** A route is data: from these records come validation, OpenAPI, the role table and the typed ApiClient. */
import type { z } from "zod";

/**
 * Who may call. viewer < user < operator < admin; `inference` is `/v1` only (user and above have it too);
 * `any` is whoever has a token that is good; `node` and `host` are agents calling each other; `public` needs no
 * token; `join` and `grant` carry their own secret.
 */
export type Role =
	| "public"
	| "any"
	| "join"
	| "grant"
	| "viewer"
	| "inference"
	| "user"
	| "operator"
	| "admin"
	| "node"
	| "host";

/** host: port 8000; node: 8001; peer: 8002. */
export type Listener = "host" | "node" | "peer";

export interface Route {
	method: "GET" | "POST" | "PUT" | "DELETE";
	/** With `{name}` parameters; each name has one validator (see PARAMETERS in agent/http). */
	path: `/${string}`;
	summary: string;
	role: Role;
	/** With `force=true` or `delete_files=true` in the query the call needs this role. */
	forceRole?: Role;
	/** A user may do it to the task that the path names only when they submitted it; an operator to any. */
	ownTask?: true;
	/** The call takes it out of their hands. */
	endsTask?: true;
	on: readonly Listener[];
	/** Fields of query and body that the audit log tells; never one that may hold a secret. */
	audited?: readonly string[];
	query?: z.ZodObject;
	body?: z.ZodObject;
	/** Status of the successful answer. */
	status: number;
	/** Schema of the JSON answer; undefined means the handler answers with a Response of its own (text, bytes, SSE). */
	response?: z.ZodType;
	/** Bodies of agents are tolerant of unknown fields; bodies of people are strict. */
	internal?: boolean;
}

type ParameterNames<P extends string> = P extends `${string}{${infer Name}}${infer Rest}`
	? Name | ParameterNames<Rest>
	: never;

/** Parameters of a route's path, decoded and checked. */
export type ParamsOf<R extends Route> = { [K in ParameterNames<R["path"]>]: string };
export type QueryOf<R extends Route> = R extends { query: infer Q extends z.ZodType }
	? z.output<Q>
	: Record<never, never>;
export type BodyOf<R extends Route> = R extends { body: infer B extends z.ZodType } ? z.output<B> : undefined;
export type AnswerOf<R extends Route> = R extends { response: infer A extends z.ZodType }
	? z.output<A>
	: Response;

/** What a caller gives: parameters, and query and body before defaults are applied. */
export type InputOf<R extends Route> = (ParameterNames<R["path"]> extends never
	? { params?: undefined }
	: { params: ParamsOf<R> }) &
	(R extends { query: infer Q extends z.ZodType } ? { query?: z.input<Q> } : { query?: undefined }) &
	(R extends { body: infer B extends z.ZodType } ? { body: z.input<B> } : { body?: undefined }) & {
		/** Aborts the call. */
		signal?: AbortSignal;
		/** The usual limit ends with the headers of the answer: its body takes as long as it takes. */
		hasLongBody?: boolean;
		headers?: Record<string, string>;
		/** Bytes, for a route that hands its body on. */
		rawBody?: Uint8Array<ArrayBuffer>;
	};
