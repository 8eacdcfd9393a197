import { expect, test } from "bun:test";
import { nodeError } from "../../src/agent/host/nodes.ts";
import { GswarmError } from "../../src/schema/errors.ts";

test("a node that refuses the host is unavailable to the caller, whose own token is good", () => {
	const refused = nodeError(
		"node1",
		new GswarmError("UNAUTHORIZED", "This needs a token.", { reason: "no_valid_token" }),
	);
	expect(refused).toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		reason: "node_refuses_host",
		status: 503,
		retryable: true,
		details: { node: "node1" },
	});
});

test("every other failure of a node is told as it is", () => {
	const missing = new GswarmError("MODEL_NOT_FOUND", "There is no model.");
	expect(nodeError("node1", missing)).toBe(missing);
	const broken = new Error("broken");
	expect(nodeError("node1", broken)).toBe(broken);
});
