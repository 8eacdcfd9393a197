import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
	createGateway,
	createLlamaEngine,
	type Front,
	type InstancePolicy,
	openServices,
	type ServiceConfig,
	type ServiceDependencies,
	serviceModule,
	type Services,
	type StartRequest,
} from "../../src/core/service/service.ts";
import { systemClock as clock } from "../../src/platform/clock.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds as ids } from "../../src/platform/ids.ts";
import { silentLog as log } from "../../src/platform/log.ts";
import { isSameProcess, type ProcessIdentity } from "../../src/platform/process.ts";
import { parseModelName, parseRevision, parseServiceId } from "../../src/schema/names.ts";
import type { ServiceDocument } from "../../src/schema/service.ts";
import { type FixtureReport, fixtureEngine, type FixtureSwitches } from "../support/fixture-engine.ts";

export const MODEL = "acme/tiny";

/** Everything faster than in production, the limits of counts as they are. */
export const QUICK: Partial<InstancePolicy> = {
	health: { intervalMs: 20, startIntervalMs: 5, timeoutMs: 1000, failureLimit: 3, startSilenceMs: 20_000 },
	restart: { crashLimit: 5, windowMs: 600_000, firstDelayMs: 1, maxDelayMs: 5 },
	killGraceMs: 20_000,
	hungGraceMs: 100,
};

export interface Node extends AsyncDisposable {
	services: Services;
	db: Database;
	/** Base URL of the node's gateway. */
	url: string;
	/** What is held at the moment. */
	held: string[];
	start(fields?: Partial<StartRequest>): Promise<ServiceDocument>;
	/** As an agent that goes without a word: the engines stay, the services of this node are of no use any more. */
	leave(): Promise<void>;
}

export interface NodeOptions {
	switches?: FixtureSwitches;
	policy?: Partial<InstancePolicy>;
	environment?: Record<string, string | undefined>;
	orphanTimeoutS?: number;
	deps?: Partial<ServiceDependencies>;
	command?: readonly string[];
}

export const SERVICE = parseServiceId("serve-tiny-1");

/** What a caller asks for when it does not matter what. */
export function request(fields: Partial<StartRequest> & { config?: ServiceConfig } = {}): StartRequest {
	return {
		serviceId: SERVICE,
		model: parseModelName(MODEL),
		revision: parseRevision("main"),
		tier: "disk",
		modelPath: "/models/acme%2Ftiny/@main",
		framework: "llama",
		config: {},
		signal: new AbortController().signal,
		...fields,
	};
}

/** The service room of one node on a directory, as an agent opens it. The engine is the fixture unless a command is given. */
export function openNode(directory: string, options: NodeOptions = {}): Node {
	mkdirSync(directory, { recursive: true });
	const db = openInlineDatabase(join(directory, "agent.sqlite"), [serviceModule]);
	const held: string[] = [];
	const services = openServices(
		{
			db,
			clock,
			ids,
			log,
			engines: {
				llama: createLlamaEngine({
					command: options.command ?? fixtureEngine(options.switches),
					cacheDir: join(directory, "cache"),
					orphanTimeoutS: options.orphanTimeoutS ?? 60,
				}),
			},
			hold({ model, revision, tier }, why) {
				const name = `${model}@${revision} ${tier} ${why}`;
				held.push(name);
				return { [Symbol.dispose]: () => void held.splice(held.indexOf(name), 1) };
			},
			openFront,
			...options.deps,
		},
		{
			nodeName: "node1",
			directory: join(directory, "services"),
			environment: options.environment ?? process.env,
			urlOf: (port) => `http://node1:${port ?? 8001}`,
			policy: { ...QUICK, ...options.policy },
		},
	);
	const gateway = createGateway({ clock, log, local: services });
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		idleTimeout: 0,
		development: false,
		fetch: (each) => gateway.handle(each, new URL(each.url).pathname),
	});
	const close = async (): Promise<void> => {
		await server.stop(true);
		await db[Symbol.asyncDispose]();
	};
	return {
		services,
		db,
		held,
		url: `http://127.0.0.1:${server.port}`,
		start: (fields) => services.start(request(fields)),
		async leave() {
			await services.detach();
			await close();
		},
		async [Symbol.asyncDispose]() {
			await services[Symbol.asyncDispose]();
			await close();
		},
	};
}

function openFront(port: number, handler: (request: Request) => Promise<Response>): Front {
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port,
		idleTimeout: 0,
		development: false,
		fetch: handler,
	});
	return { close: () => server.stop(true) };
}

/** The row's idea of its process. */
export function identityOf(node: Node): ProcessIdentity {
	const [row] = node.db.read
		.query<{ pid: number; start_time: string; boot_id: string }, []>(
			"SELECT pid, start_time, boot_id FROM service",
		)
		.all();
	if (row === undefined) throw new Error("there is no service");
	return { pid: row.pid, startTime: row.start_time, bootId: row.boot_id };
}

export function isAlive(identity: ProcessIdentity): boolean {
	return isSameProcess(identity);
}

/** What the fixture engine has seen. */
export async function reportOf(node: Node): Promise<FixtureReport> {
	const [upstream] = node.services.upstreams(MODEL);
	return (await (await fetch(`${upstream?.baseUrl}/fixture`)).json()) as FixtureReport;
}

/** A chat request; `wait_ms` and `stream` are the fixture's. */
export function chat(
	baseUrl: string,
	content: string,
	fields: Record<string, unknown> = {},
	init: RequestInit = {},
): Promise<Response> {
	return fetch(`${baseUrl}/v1/chat/completions`, {
		method: "POST",
		body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content }], ...fields }),
		...init,
	});
}
