/** A host that nodes join, over TLS and in this process: its rooms and routes, without queue and models. */
import { join } from "node:path";
import { type HostCredentials, hostCredentials } from "../../src/agent/credentials.ts";
import type { NodeFile } from "../../src/agent/data-dir.ts";
import { databaseModules } from "../../src/agent/database-modules.ts";
import { joinRoutes, makeJoinString } from "../../src/agent/host/join-routes.ts";
import { nodeAdminRoutes } from "../../src/agent/host/node-admin-routes.ts";
import { errorResponse } from "../../src/agent/http/errors.ts";
import { type JoinDependencies, joinHost } from "../../src/agent/join-host.ts";
import type { Membership } from "../../src/agent/membership.ts";
import { createAgentClient } from "../../src/agent/agent-client.ts";
import { contract } from "../../src/api/contract.ts";
import { type Cluster, createCluster } from "../../src/core/cluster/cluster.ts";
import {
	createIdentity,
	createJoining,
	generateKeyPair,
	generateTlsKey,
	type Identity,
	type Joining,
	parseJoinString,
} from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import { createRegistry, type Registry } from "../../src/core/registry/registry.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createLog, type Log } from "../../src/platform/log.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { memoryPems, testRequest } from "../support/credentials.ts";
import { tempDir } from "../support/temp-dir.ts";

export type Routes = ReturnType<typeof joinRoutes> & ReturnType<typeof nodeAdminRoutes>;

export interface JoinHostStand extends AsyncDisposable {
	url: string;
	credentials: HostCredentials;
	cluster: Cluster;
	identity: Identity;
	joining: Joining;
	registry: Registry;
	routes: Routes;
	/** Method and path of every request, with what it carried. */
	seen: string[];
	log: Log;
	events: Record<string, unknown>[];
	joinString(options?: { ttlS?: number; uses?: number; approve?: boolean }): Promise<string>;
	/** A route's answer, as the middleware would call it. */
	ask<I extends keyof Routes>(id: I, call: Partial<Parameters<Routes[I]>[0]>): Promise<unknown>;
}

/** `tls: false` listens on plain HTTP. */
export async function joinHostStand({
	clock = systemClock,
	tls = true,
	approveJoins = false,
	pems = memoryPems(),
}: {
	clock?: Clock;
	tls?: boolean;
	approveJoins?: boolean;
	pems?: ReturnType<typeof memoryPems>;
} = {}): Promise<JoinHostStand> {
	const dir = tempDir();
	const events: Record<string, unknown>[] = [];
	const log = createLog({ clock, write: (line) => void events.push(JSON.parse(line)) });
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), databaseModules);
	const identity = createIdentity({ db, clock, ids: systemIds });
	const joining = createJoining({ db, clock });
	const cluster = createCluster({ db, clock, log });
	const registry = createRegistry({
		db,
		clock,
		facts: { activities: () => [], services: () => cluster.services(), nodeStatus: () => "alive" },
	});
	const credentials = await hostCredentials({ dataDir: pems, clusterId: "c1", clock, ids: systemIds });
	const d = {
		approveJoins,
		cluster,
		clusterId: "c1",
		credentials,
		hostUrl: () => stand.url,
		identity,
		joining,
		publicKey: generateKeyPair().publicKey,
		registry,
		inventoryVersions: new Map<string, string>(),
	};
	const routes: Routes = { ...joinRoutes(d), ...nodeAdminRoutes(d) };
	const seen: string[] = [];
	const { certificate, privateKey } = await credentials.serverIdentity({ dns: [], addresses: [] });
	const server = Bun.serve({
		port: 0,
		hostname: "127.0.0.1",
		...(tls ? { tls: { cert: certificate, key: privateKey } } : {}),
		async fetch(request, self) {
			const { pathname } = new URL(request.url);
			const text = await request.text();
			seen.push(`${request.method} ${pathname} ${text}`);
			const address = self.requestIP(request)?.address ?? "";
			const bearer = request.headers.get("authorization")?.replace("Bearer ", "");
			try {
				if (pathname === "/cacerts") return await routes.authority({} as never);
				if (pathname === "/api/v1/join") {
					const body = contract.join.body.parse(JSON.parse(text));
					return Response.json(await routes.join({ body, address } as never));
				}
				const caller = bearer === undefined ? undefined : identity.authenticate(bearer);
				if (caller === undefined) throw identity.refusal(bearer);
				const body = contract.renewCertificate.body.parse(JSON.parse(text));
				return Response.json(await routes.renewCertificate({ body, address, caller } as never));
			} catch (error) {
				return errorResponse(asGswarmError(error), { requestId: "r", nowMs: 0, openAi: false });
			}
		},
	});
	const stand: JoinHostStand = {
		url: `${tls ? "https" : "http"}://127.0.0.1:${server.port}`,
		credentials,
		cluster,
		identity,
		joining,
		registry,
		routes,
		seen,
		log,
		events,
		async joinString({ ttlS = 3600, uses = 1, approve = false } = {}) {
			return (await makeJoinString(d, { ttlS, uses, approve, createdBy: "test" })).token;
		},
		ask: async (id, call) => (routes[id] as (of: unknown) => unknown)(call),
		async [Symbol.asyncDispose]() {
			await server.stop(true);
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
	return stand;
}

/** A machine that wants to join: its file, and what it would write to its data directory. */
export interface Joiner {
	file: NodeFile;
	written: NodeFile[];
	join(
		options: { joinUrl?: string; joinString?: string },
		more?: Partial<JoinDependencies>,
	): Promise<Membership>;
}

export function joiner(name: string, clock: Clock = systemClock): Joiner {
	const key = generateTlsKey();
	const written: NodeFile[] = [];
	const self: Joiner = {
		file: { name, node_id: "id", public_key: key.publicKey, private_key: key.privateKey },
		written,
		join: (options, more = {}) =>
			joinHost({
				options,
				dataDir: {
					writeNode(file) {
						written.push(file);
						self.file = file;
					},
					writePem: () => undefined,
				},
				nodeFile: self.file,
				clock,
				log: createLog({ clock, write: () => undefined }),
				addresses: [],
				...more,
			}),
	};
	return self;
}

export interface Attacker extends AsyncDisposable {
	url: string;
	/** Everything that came through, headers and bodies, in the clear. */
	seen: string[];
}

/**
 * A TLS proxy in front of a host, with a certificate of its own. `authority` is what it shows at /cacerts; left out it
 * passes on what the host shows.
 */
export function manInTheMiddle(
	target: string,
	certificate: { certificate: string; privateKey: string },
	authority?: string,
): Attacker {
	const seen: string[] = [];
	const server = Bun.serve({
		port: 0,
		hostname: "127.0.0.1",
		tls: { cert: certificate.certificate, key: certificate.privateKey },
		async fetch(request) {
			const url = new URL(request.url);
			const body = await request.text();
			seen.push(`${request.method} ${url.pathname} ${JSON.stringify([...request.headers])} ${body}`);
			if (url.pathname === "/cacerts" && authority !== undefined) return new Response(authority);
			return fetch(`${target}${url.pathname}`, {
				method: request.method,
				headers: request.headers,
				...(body === "" ? {} : { body }),
				tls: { rejectUnauthorized: false },
			});
		},
	});
	return {
		url: `https://127.0.0.1:${server.port}`,
		seen,
		[Symbol.asyncDispose]: () => server.stop(true),
	};
}

/** Whom agents must meet at this host. */
export function hostTrust(stand: JoinHostStand) {
	return { ca: stand.credentials.caCertificate, serverName: HOST_SERVER_NAME };
}

export async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** As a node would call the host with its bearer. */
export const clientOf = (s: JoinHostStand, token: string | undefined) =>
	createAgentClient({ baseUrl: s.url, token: () => token, trust: hostTrust(s) });

/** A join as a program of somebody else might post it. */
export async function post(s: JoinHostStand, joinString: string, change: Record<string, unknown> = {}) {
	const { tokenId, secret } = parseJoinString(joinString);
	const { certificate_request } = await testRequest("node1");
	return clientOf(s, undefined).call("join", {
		body: {
			node: "node1",
			secret: `${tokenId}.${secret}`,
			certificate_request,
			protocol_version: PROTOCOL_VERSION,
			version: "test",
			...change,
		},
	});
}
