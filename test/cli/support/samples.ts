/** Answers of the API that tests build on. */
import type { ModelDetail, ModelLocation, ModelSummary } from "../../../src/schema/model.ts";
import type { NodeDocument } from "../../../src/schema/node.ts";
import type { ServiceDocument } from "../../../src/schema/service.ts";
import type { TaskDocument } from "../../../src/schema/task.ts";
import type { TokenDocument } from "../../../src/schema/token.ts";
import { NOW_MS } from "./fake-world.ts";

const NOW_S = NOW_MS / 1000;

export function sampleTask(change: Partial<TaskDocument> = {}): TaskDocument {
	return {
		task_id: "download-tiny-k3v9x2ma",
		seq: 7,
		task_type: "download",
		priority: "normal",
		dependencies: [],
		resources: { devices: ["node1:disk"], models: ["acme/tiny"], exclusive: false },
		status: "running",
		phase: "downloading",
		progress: { bytes_done: 37_000_000, bytes_total: 64_000_000, rate_bytes_per_s: 110e6, eta_s: 0.25 },
		attempt: 1,
		max_attempts: 5,
		node: "node1",
		created_at: NOW_S - 90,
		started_at: NOW_S - 80,
		completed_at: null,
		waiting_for: null,
		request: { model_name: "acme/tiny", source_url: "hf:acme/tiny" },
		result: null,
		error: null,
		retry_of: null,
		retried_as: null,
		...change,
	};
}

export const DONE = sampleTask({
	status: "completed",
	phase: "done",
	progress: { bytes_done: 64_000_000, bytes_total: 64_000_000, rate_bytes_per_s: 0, eta_s: null },
	completed_at: NOW_S - 78,
	result: { device: "node1:disk", revision: "abc", size_bytes: 64_000_000 },
});

export const SUBMITTED = {
	task_id: "download-tiny-k3v9x2ma",
	status: "queued" as const,
	position: 0,
	estimated_time: 0,
	node: "node1",
};

export const MODEL: ModelSummary = {
	model_name: "acme/tiny",
	model_type: "llm",
	model_size: 64_000_000,
	locations: ["node1:disk", "node2:dram"],
	services: { node2: "http://127.0.0.1:8001" },
	status: "ready",
};

export const LOCATION: ModelLocation = {
	device: "node1:disk",
	status: "ready",
	revision: "0123456789abcdef0123456789abcdef01234567",
	size_bytes: 64_000_000,
	content_id: "c0ffee",
	node_status: "alive",
};

export const DETAIL: ModelDetail = {
	...MODEL,
	source_url: "hf:acme/tiny",
	metadata: { license: "mit", parameters: 16_000_000 },
	revision: "0123456789abcdef0123456789abcdef01234567",
	format: "gguf",
	created_at: NOW_S - 3600,
	location_details: [LOCATION, { ...LOCATION, device: "node2:dram", node_status: "suspect" }],
};

export const NODE: NodeDocument = {
	name: "node1",
	status: "alive",
	address: "127.0.0.1",
	api_port: 8001,
	peer_port: 8002,
	version: "0.1.0",
	protocol_version: 1,
	cpus: 2,
	tiers: {
		disk: { total: 1e12, used: 2e11, reserved: 0, available: 8e11 },
		dram: { total: 32e9, used: 0, reserved: 0, available: 32e9 },
	},
	tasks: { pending: 1, running: 2, completed: 7 },
	models: 3,
	services: 1,
	joined_at: NOW_S - 7200,
	last_seen_s: 1.2,
};

export const SERVICE: ServiceDocument = {
	service_id: "svc-tiny-node2-dram-910b",
	model_name: "acme/tiny",
	device: "node2:dram",
	node: "node2",
	framework: "llama",
	state: "ready",
	url: "http://127.0.0.1:8001",
	port: null,
	pid: 4711,
	started_at: NOW_S - 60,
	ready_s: 0.8,
	restarts: 0,
	requests: 12,
	load_balancing: "least_outstanding",
	error: null,
};

export const TOKEN: TokenDocument = {
	token_id: "k3v9x2ma",
	kind: "user",
	name: "ann-laptop",
	role: "user",
	status: "active",
	created_at: NOW_S - 86_400,
	created_by: "admin",
	expires_at: null,
	last_used_at: NOW_S - 120,
	uses_left: null,
};
