/** Beats of a node that has nothing to do, and services that it may report. */
import { type Heartbeat, PROTOCOL_VERSION } from "../../src/schema/node.ts";
import type { ServiceDocument } from "../../src/schema/service.ts";

export function heartbeat(change: Partial<Heartbeat> = {}): Heartbeat {
	return {
		protocol_version: PROTOCOL_VERSION,
		version: "0.1.0",
		incarnation: 1,
		seq: 1,
		api_port: 8001,
		peer_port: 8002,
		tiers: { disk: { total: 100, used: 10, reserved: 5, available: 85 } },
		cpus: 8,
		tasks: { pending: 0, running: 0, completed: 0 },
		activities: [],
		services: [],
		models: 0,
		inventory_version: 0,
		...change,
	};
}

export function service(change: Partial<ServiceDocument> = {}): ServiceDocument {
	return {
		service_id: "svc-tiny-node1-disk-0a0a",
		model_name: "acme/tiny",
		device: "node1:disk",
		node: "node1",
		framework: "llama",
		state: "ready",
		url: "http://127.0.0.1:8001",
		port: null,
		pid: 4711,
		started_at: 1,
		ready_s: 0.5,
		restarts: 0,
		requests: 0,
		load_balancing: "least_outstanding",
		error: null,
		...change,
	};
}
