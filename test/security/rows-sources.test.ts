/** Secrets in the address of a source: refused where they cannot be kept, never told where they must be. */
import { expect, test } from "bun:test";
import { shownSource } from "../../src/platform/outbound-guard.ts";
import { localCluster } from "../support/cluster.ts";

const CANARY = "c4n4ry";

test.each([
	["hf:acme/tiny@main:Q4_K_M", "hf:acme/tiny@main:Q4_K_M"],
	["https://models.example/tiny.gguf", "https://models.example/tiny.gguf"],
	[`https://models.example/tiny.gguf?X-Amz-Signature=${CANARY}`, "https://models.example/tiny.gguf"],
	[`https://${CANARY}:${CANARY}@models.example/tiny.gguf`, "https://models.example/tiny.gguf"],
	[
		`https://models.example/t.tar?sig=${CANARY}#sha256=${"a".repeat(64)}`,
		`https://models.example/t.tar#sha256=${"a".repeat(64)}`,
	],
	[`https://models.example/t.tar#${CANARY}`, "https://models.example/t.tar"],
	[`https://${CANARY}:bad port/`, "(not a URL)"],
])("the source %s is told as %s", (source, shown) => {
	expect(shownSource(source)).toBe(shown);
});

test("a signed address is used and not told: by the model, its task, lists and logs; a password is refused", async () => {
	await using cluster = await localCluster({ nodes: ["node1"] });
	const { client } = cluster.host;
	const signed = `http://127.0.0.1:9/tiny.gguf?X-Amz-Signature=${CANARY}`;
	const registered = await client.call("registerModel", { body: { model_name: "tiny", source_url: signed } });
	expect(registered.source_url).toBe("http://127.0.0.1:9/tiny.gguf");
	const submitted = await client
		.call("downloadModel", { params: { model_name: "tiny" }, body: { target_device: "node1:disk" } })
		.catch((error: unknown) => error);
	// Loopback is refused at once, with the address without what signs it.
	expect(submitted).toMatchObject({ reason: "address_blocked" });
	const hub = `${cluster.hub.url}/tiny.gguf?X-Amz-Signature=${CANARY}`;
	const { task_id: taskId } = await client.call("downloadModel", {
		params: { model_name: "other" },
		body: { target_device: "node1:disk", source_url: hub },
	});
	const task = await cluster.ended(taskId);
	expect(task.request["source_url"]).toBe(`${cluster.hub.url}/tiny.gguf`);
	const told = [
		submitted,
		task,
		await client.call("getModel", { params: { model_name: "tiny" } }),
		await client.call("listModels", {}),
		await client.call("queueHistory", {}),
		await client.call("status", {}),
		await cluster.node("node1").client.call("queueHistory", {}),
		cluster.log,
	];
	expect(JSON.stringify(told)).not.toContain(CANARY);

	const refused = client.call("registerModel", {
		body: { model_name: "third", source_url: `https://someone:${CANARY}@models.example/x` },
	});
	expect(await refused.catch((error: unknown) => error)).toMatchObject({
		status: 400,
		reason: "credentials_in_url",
	});
});
