import { invalid } from "../../schema/errors.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatDuration } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { count, duration } from "../values.ts";

export const command = defineCommand({
	about:
		"Makes a join string: a secret that lets another machine join this cluster as a node. It is the only thing on the standard output; the other machine takes it from its standard input or from a file with mode 0600, never from the command line.",
	args: {
		join: {
			type: "boolean",
			description: "A string for machines that join (the only kind so far; required)",
		},
		ttl: {
			type: "string",
			value: duration,
			default: "1h",
			valueHint: "TIME",
			description: "How long it is good for",
		},
		uses: {
			type: "string",
			value: count,
			default: "1",
			valueHint: "N",
			description: "How many machines may use it",
		},
	},
	examples: [
		["token create --join", "for one machine, within an hour"],
		[
			"token create --join --ttl 10m --uses 4 | ssh other gswarm agent --join URL --detach",
			"straight to another machine",
		],
	],
	next: ["agent --join URL", "node list"],
	async run({ api, out, say, world }, { join, ttl, uses }) {
		if (!join) throw invalid("usage", "Which kind of token is missing.", {}, "`gswarm token create --join`");
		const body = await (await api()).call("createToken", {
			body: { kind: "join", ttl_s: Math.max(1, Math.round(ttl / 1000)), uses },
		});
		await out.show(body, { names: () => [body.token], human: () => safeLine(body.token) });
		const machines = body.uses === 1 ? "one machine" : `${body.uses} machines`;
		const leftS = body.expires_at - world.clock.nowMs() / 1000;
		say.info(
			`For ${machines}, good for ${formatDuration(leftS)}. On the other machine, with this string on its standard input:`,
		);
		say.info(`  ${safeLine(body.command)}`);
		return EXIT.done;
	},
});
