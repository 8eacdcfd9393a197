import type { NodeDocument } from "../../schema/node.ts";
import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { type ValueKind, node } from "../values.ts";

const address: ValueKind<string> = {
	parse: (text) => (/^[A-Za-z0-9_.:-]{1,253}$/.test(text) ? text : undefined),
	wanted: "a host name or an IP address",
};

export const command = defineCommand({
	about:
		"Lets a node in that waits to join, with the names and addresses that it asks for, or only those given. Of a node that has joined, its certificate vouches for more names then, from its next one on. `node list -o wide` shows what is asked for, and the fingerprint of its key, which its agent prints too. On a terminal it asks first.",
	args: {
		node: { type: "positional", value: node, description: "Name of the node" },
		address: {
			type: "string",
			value: address,
			many: true,
			valueHint: "NAME_OR_ADDRESS",
			description: "A name or address for its certificate",
		},
	},
	examples: [
		["node approve node2", "with what it asks for"],
		["node approve node2 --address gpu2.lan", "with this name beside the address it calls from"],
	],
	next: ["node list"],
	async run(context, { node: name, address: addresses }) {
		const { api, out, say } = context;
		const client = await api();
		const waiting = (await client.call("listNodes", {})).nodes.find(
			(it) => it.name === name && it.status === "waiting",
		);
		// Anybody with the join string can ask under any name: the address and the key say which machine it is.
		if (waiting !== undefined && !(await confirm(context, `Let ${describe(waiting)} into the cluster?`))) {
			say.info("Nobody was let in.");
			return EXIT.failed;
		}
		const body = await client.call("approveNode", {
			params: { node: name },
			body: addresses.length === 0 ? {} : { addresses: [...addresses] },
		});
		await out.show(body, { names: () => [body.node], human: () => safeLine(body.node) });
		const names = body.addresses.length === 0 ? "" : `, with ${safeLine(body.addresses.join(", "))}`;
		say.success(`Approved ${waiting === undefined ? name : describe(waiting)}${names}.`);
		if (body.status === "waiting") say.info("It joins when it asks again, within seconds.");
		say.next(["node list"]);
		return EXIT.done;
	},
});

/** `node2 (10.0.0.7, key 1f2e-…)`. */
function describe({ name, address: from, key_fingerprint: key }: NodeDocument): string {
	return safeLine(`${name} (${from}${key === undefined ? "" : `, key ${key}`})`);
}
