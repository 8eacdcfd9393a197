/** A listener's app over a real identity and database, whose handlers answer with what they were called with. */
import type { Database as Sqlite } from "bun:sqlite";
import { join } from "node:path";
import { type App, createApp, type Handlers } from "../../src/agent/http/app.ts";
import { allowedHosts } from "../../src/agent/http/browser-guard.ts";
import { contract } from "../../src/api/contract.ts";
import type { Listener, Route } from "../../src/api/route.ts";
import {
	type Audit,
	auditModule,
	type CallerRole,
	createAudit,
	createIdentity,
	formatToken,
	generateKeyPair,
	type Identity,
	identityModule,
	makeToken,
	signAssertion,
} from "../../src/core/identity/identity.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createLog } from "../../src/platform/log.ts";
import type { ErrorBody } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

export const ROLES: readonly CallerRole[] = [
	"viewer",
	"inference",
	"user",
	"operator",
	"admin",
	"node",
	"host",
];
export const HOST = "127.0.0.1:8000";

export interface Ask {
	/** Who asks; admin unless told, undefined for nobody. */
	as?: CallerRole | undefined;
	headers?: Record<string, string | undefined>;
	/** Sent as it is when it is a string or bytes, else as JSON. */
	body?: unknown;
}

export interface TestApp extends AsyncDisposable {
	app: App;
	identity: Identity;
	clock: FakeClock;
	bearer(role: CallerRole): string;
	/** Lines of the log. */
	log: Record<string, unknown>[];
	/** Which routes were handled. */
	handled: string[];
	/** Only where it was asked for. */
	audit: Audit | undefined;
	/** The directory of the database. */
	path: string;
	ask(method: string, path: string, ask?: Ask): Promise<Response>;
}

/** What a handler of the test answers. */
export interface Echo {
	id: string;
	params: Record<string, string>;
	query: Record<string, unknown>;
	body: unknown;
	caller: string | undefined;
	task_id: string;
}

/** Tokens of roles that no command makes yet. */
const surgery = {
	room: "surgery",
	migrations: [],
	writes: {
		add: (db: Sqlite, row: { id: string; role: string; hash: string }): void =>
			void db
				.query(
					"INSERT INTO token (token_id, kind, role, secret_sha256, created_at) VALUES ($id, 'admin', $role, $hash, 0)",
				)
				.run({ ...row }),
	},
};

export async function testApp(
	listener: Listener,
	change: {
		handle?: (echo: Echo) => unknown;
		/** Handlers that are tried themselves, in place of the echo. */
		real?: Readonly<Record<string, (call: never) => unknown>>;
		port?: () => number;
		isAudited?: boolean;
		trustedProxies?: readonly string[];
	} = {},
): Promise<TestApp> {
	const dir = tempDir();
	const clock = new FakeClock();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule, auditModule, surgery]);
	const identity = createIdentity({ db, clock, ids: systemIds });
	const host = generateKeyPair();
	identity.trustHost({ nodeName: "node1", hostPublicKey: host.publicKey, hostNowMs: () => clock.nowMs() });
	const bearers = new Map<CallerRole, string>([["node", await identity.createNodeBearer("node1")]]);
	for (const role of ROLES) {
		if (role === "node" || role === "host") continue;
		const token = makeToken(systemIds, "admin");
		const hash = new Bun.CryptoHasher("sha256").update(token.secret).digest("hex");
		await db.writer(surgery).add({ id: token.id, role, hash });
		bearers.set(role, formatToken(token));
	}
	const handled: string[] = [];
	const log: Record<string, unknown>[] = [];
	const handlers = Object.fromEntries(
		(Object.entries(contract) as [string, Route][])
			.filter(([, route]) => route.on.includes(listener))
			.map(([id, route]) => [
				id,
				(call: Pick<Echo, "params" | "query" | "body"> & { caller?: { id: string } }) => {
					handled.push(id);
					const real = change.real?.[id];
					if (real !== undefined) return real(call as never);
					const { params, query, body, caller } = call;
					const echo: Echo = { id, params, query, body, caller: caller?.id, task_id: "copy-tiny-1" };
					if (change.handle !== undefined) return change.handle(echo);
					return route.response === undefined ? Response.json(echo, { status: route.status }) : echo;
				},
			]),
	) as unknown as Handlers<Listener>;
	const logger = createLog({ clock, write: (line) => log.push(JSON.parse(line)) }, { level: "debug" });
	const audit = change.isAudited === true ? createAudit({ db, clock, log: logger }) : undefined;
	const app = createApp(listener, handlers, {
		identity,
		clock,
		ids: systemIds,
		log: logger,
		audit,
		trustedProxies: change.trustedProxies,
		allowedHosts: () => allowedHosts(["node1"], change.port?.() ?? 8000),
	});
	const bearer = (role: CallerRole): string =>
		role === "host" ? signAssertion(host.privateKey, "node1", clock.nowMs()) : (bearers.get(role) ?? "");
	return {
		app,
		identity,
		clock,
		bearer,
		log,
		handled,
		audit,
		path: dir.path,
		ask(method, path, ask = {}) {
			const { headers = {}, body } = ask;
			const who = "as" in ask ? ask.as : "admin";
			const all = new Headers({ host: HOST, ...(headers as Record<string, string>) });
			if (who !== undefined && !all.has("authorization")) all.set("authorization", `Bearer ${bearer(who)}`);
			const raw = typeof body === "string" || body instanceof Uint8Array || body === undefined;
			if (!raw && !all.has("content-type")) all.set("content-type", "application/json");
			const payload = raw ? body : JSON.stringify(body);
			const request = new Request(`http://${HOST}${path}`, {
				method,
				headers: all,
				...(payload === undefined ? {} : { body: payload as string }),
			});
			return app(request, "127.0.0.1");
		},
		async [Symbol.asyncDispose]() {
			await audit?.[Symbol.asyncDispose]();
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

/** The error of the design's body, whose form is checked on the way. */
export async function errorOf(response: Response): Promise<ErrorBody["error"]> {
	const body = (await response.json()) as ErrorBody;
	const { code, message, details, timestamp, request_id, ...more } = body.error;
	const form = {
		outer: Object.keys(body),
		more: Object.keys(more),
		types: [typeof code, typeof message, typeof details, typeof timestamp, typeof request_id],
		sameId: response.headers.get("x-request-id") === request_id,
		reason: typeof details["reason"],
	};
	const right = {
		outer: ["error"],
		more: [],
		types: ["string", "string", "object", "number", "string"],
		sameId: true,
		reason: "string",
	};
	if (JSON.stringify(form) !== JSON.stringify(right))
		throw new Error(`not the design's error body: ${JSON.stringify(body)}`);
	return body.error;
}

/** `400 bad_field model_name`: status, reason and field of an error. */
export async function told(response: Response): Promise<string> {
	if (response.ok) return `${response.status}`;
	const { details } = await errorOf(response);
	const field = details["field"] ?? details["key"];
	return [response.status, details["reason"], ...(typeof field === "string" ? [field] : [])].join(" ");
}
