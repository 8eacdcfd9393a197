/** The way of a model from one node to another: who may have it, and what it may go over. */
import { expect, test } from "bun:test";
import { grantForOperation } from "../../src/agent/host/operations.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { TaskDocument } from "../../src/schema/task.ts";

const OPERATION = {
	task_id: "copy-tiny-1",
	task_type: "copy",
	status: "running",
	request: { model_name: "tiny", source_device: "node1:disk", target_device: "node2:disk" },
} as unknown as TaskDocument;
const ENDED: TaskDocument = { ...OPERATION, status: "completed" };
const REMOVAL: TaskDocument = { ...OPERATION, task_type: "delete" };

async function granted(
	peerUrl: string,
	{ trustedNetwork = false, receiver = "node2", operation = OPERATION } = {},
): Promise<{ answer: string; asked: string[] }> {
	const asked: string[] = [];
	const call = (id: string): Promise<unknown> => {
		asked.push(id);
		const manifest = { files: [], total_bytes: 0 };
		return Promise.resolve(
			id === "grantParts"
				? { grant: "secret", expires_in_s: 60 }
				: { copy: { status: "ready", content_id: "a".repeat(64) }, manifest },
		);
	};
	const d = {
		trustedNetwork,
		nodes: {
			target: (device: string) => ({ node: device.split(":")[0], tier: "disk", device }),
			reachable: () => [],
			client: () => ({ call }),
			trust: () => ({ serverName: "n-node1" }),
		},
		cluster: { view: () => ({ peerUrl }) },
		registry: { locations: () => [] },
	};
	const answer = await grantForOperation(d as never, operation, receiver).then(
		({ grant }) => grant,
		(error: unknown) => asGswarmError(error).reason ?? "",
	);
	return { answer, asked };
}

test.each([
	["http://10.0.0.5:8002", false, "parts_without_tls"],
	["http://gpu1.lab.local:8002", false, "parts_without_tls"],
	["http://[fd00::5]:8002", false, "parts_without_tls"],
	["http://10.0.0.5:8002", true, "secret"],
	["https://10.0.0.5:8002", false, "secret"],
	["http://127.0.0.1:8002", false, "secret"],
	["http://[::1]:8002", false, "secret"],
])("parts from %s where the network's being trusted is %p: %s", async (url, trustedNetwork, wanted) => {
	const { answer, asked } = await granted(url, { trustedNetwork });
	expect(answer).toBe(wanted);
	// Nothing was asked of the source, so that no grant is out in the open either.
	expect(asked).toEqual(wanted === "secret" ? ["resolveModel", "grantParts"] : []);
});

test.each([
	["another node than the receiver", { receiver: "node3" }],
	["the node that holds the model", { receiver: "node1" }],
	["nobody by name", { receiver: "" }],
	["the receiver, when the operation has ended", { operation: ENDED }],
	["the receiver, when it is no copy", { operation: REMOVAL }],
])("%s gets no grant", async (_who, change) => {
	expect(await granted("https://10.0.0.5:8002", change)).toEqual({ answer: "not_your_node", asked: [] });
});
