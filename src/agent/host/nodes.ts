/** How the host finds and calls its nodes. */
import type { ApiClient } from "../../api/client.ts";
import { type Cluster, type NodeView, isReachable } from "../../core/cluster/cluster.ts";
import { type TlsTrust, keyedServerName, signAssertion } from "../../core/identity/identity.ts";
import type { Registry } from "../../core/registry/registry.ts";
import type { Clock } from "../../platform/clock.ts";
import { isOpenHttp } from "../../platform/plain-http.ts";
import { type Device, formatDevice, formatTier, parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import { createAgentClient } from "../agent-client.ts";

export interface Nodes {
	/**
	 * A typed caller of a node, signed for that node.
	 * @throws 404 node_not_found, 503 node_unreachable, node_without_tls
	 */
	client(node: string): ApiClient;
	reachable(): NodeView[];
	/** Those that report within one heartbeat: alive by their rows, and not heard from since this host's start. */
	awaited(): NodeView[];
	/** A bearer for calls to the node outside the contract (gateway). */
	bearer(node: string): string;
	/** Whom to meet there. */
	trust(node: string): TlsTrust;
	/**
	 * The node and tier of a device, the node found by name or address. Without a prefix: the only node.
	 * @throws 400 ambiguous_device, bad_device; 404 node_not_found, device_not_found
	 */
	target(device: string): { node: string; tier: string; device: string };
	/** As target, for a device that must hold the model: without a prefix the only node that has it on that tier. */
	holding(device: string, model: string): { node: string; tier: string; device: string };
}

export function createNodes({
	cluster,
	registry,
	clock,
	privateKey,
	caCertificate,
}: {
	cluster: Cluster;
	registry: Registry;
	clock: Clock;
	/** Signs what this host asks of nodes. */
	privateKey: string;
	/** PEM of the cluster's CA. */
	caCertificate: string;
}): Nodes {
	const bearer = (node: string): string => signAssertion(privateKey, node, clock.nowMs());
	// A node without a key, removed or reset, has a name that no certificate holds.
	const trust = (node: string): TlsTrust => ({
		ca: caCertificate,
		serverName: keyedServerName(node, cluster.keyOf(node) ?? ""),
	});
	const parse = (text: string): Device => {
		const device = parseDevice(text);
		if (device.kind === "web") {
			throw invalid("bad_device", "`web` is where models come from; name a disk or dram.", { device: text });
		}
		return device;
	};
	const located = (view: NodeView, device: Device): { node: string; tier: string; device: string } => {
		const tier = formatTier(device);
		if (view.beat !== undefined && view.beat.tiers[tier] === undefined) {
			throw notFound(
				"device",
				`${view.name}:${tier}`,
				`${view.name} has ${Object.keys(view.beat.tiers).join(", ")}.`,
			);
		}
		return { node: view.name, tier, device: `${view.name}:${tier}` };
	};
	const ambiguous = (device: Device, candidates: string[]): GswarmError =>
		invalid(
			"ambiguous_device",
			`${JSON.stringify(formatDevice(device))} names no node, and ${candidates.length === 0 ? "there is none" : `${candidates.join(", ")} could be meant`}.`,
			{ device: formatDevice(device), nodes: candidates },
			`Write it with its node, e.g. ${candidates[0] ?? "node1"}:${formatTier(device)}.`,
		);

	return {
		client(node) {
			const view = cluster.view(node);
			if (!isReachable(view.liveness)) throw nodeUnreachable(view.name, view.liveness);
			// Its row is older than this host's start; it reports within one heartbeat.
			if (view.beat === undefined) throw nodeUnreachable(view.name, "not heard from yet");
			if (isOpenHttp(view.apiUrl)) throw nodeWithoutTls(view.name);
			const token = (): string => bearer(view.name);
			const client = createAgentClient({ baseUrl: view.apiUrl, token, trust: trust(view.name) });
			return inOurWords(view.name, client);
		},
		reachable: () => cluster.views().filter((v) => isReachable(v.liveness) && v.beat !== undefined),
		awaited: () => cluster.views().filter((v) => isReachable(v.liveness) && v.beat === undefined),
		bearer,
		trust,
		target(text) {
			const device = parse(text);
			if (device.node !== undefined) return located(cluster.view(device.node), device);
			const views = cluster.views();
			const [only] = views;
			if (only !== undefined && views.length === 1) return located(only, device);
			throw ambiguous(
				device,
				views.map((v) => v.name),
			);
		},
		holding(text, model) {
			const device = parse(text);
			const tier = formatTier(device);
			const holders = registry.locations(model).filter((l) => l.status === "ready" && l.tier === tier);
			if (device.node !== undefined) {
				const target = located(cluster.view(device.node), device);
				if (!registry.has(model) || !holders.some((l) => l.node === target.node))
					throw notReady(registry, model, target);
				return target;
			}
			const names = [...new Set(holders.map((l) => l.node))];
			const [only] = names;
			if (only === undefined) throw modelNotFound(model, tier);
			if (names.length > 1) throw ambiguous(device, names);
			return located(cluster.view(only), device);
		},
	};
}

/** 404: there is none, or only one that is out of use. */
function notReady(
	registry: Registry,
	model: string,
	{ node, tier, device }: { node: string; tier: string; device: string },
): GswarmError {
	const there = registry.locations(model).some((l) => l.node === node && l.tier === tier);
	if (!there) return modelNotFound(model, device);
	return new GswarmError(
		"MODEL_NOT_FOUND",
		`The copy of ${JSON.stringify(model)} on ${device} is not ready.`,
		{
			reason: "model_not_found",
			details: { model, device },
			hint: `\`gswarm model locations ${model}\` shows its state; \`gswarm model verify ${model}\` takes back one that is right.`,
		},
	);
}

/** 503: the node is known but does not answer. */
export function nodeUnreachable(node: string, status: string): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `The node ${node} is ${status}.`, {
		reason: "node_unreachable",
		details: { node, status },
		retryable: true,
		hint: "`gswarm node list` shows when it was last seen.",
	});
}

/** 503: what would be sent to the node could be read and changed on the way. */
function nodeWithoutTls(node: string): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The node ${node} is on another machine and speaks no TLS.`,
		{
			reason: "node_without_tls",
			details: { node },
			retryable: true,
			hint: "Start its agent with the gswarm version of this host, and without a proxy in front of it.",
		},
	);
}

/** A node that does not accept this host is its trouble with the host, not the caller's with a token. */
export function nodeError(node: string, error: unknown): unknown {
	if (!(error instanceof GswarmError) || error.code !== "UNAUTHORIZED") return error;
	return new GswarmError("RESOURCE_UNAVAILABLE", `The node ${node} does not accept the word of this host.`, {
		reason: "node_refuses_host",
		details: { node },
		retryable: true,
		hint: "It may just have started. If it stays so, the node has to join again.",
		cause: error,
	});
}

function inOurWords(node: string, client: ApiClient): ApiClient {
	const told = (error: unknown): never => {
		throw nodeError(node, error);
	};
	return {
		baseUrl: client.baseUrl,
		call: (id, input) => client.call(id, input).catch(told),
		open: (id, input) => client.open(id, input).catch(told),
	};
}
