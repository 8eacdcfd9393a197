import { isAlive, readAgentFile, startingAgent } from "../agent-file.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { formatAge } from "../render/format.ts";

export const command = defineCommand({
	about:
		"Says whether the agent of a data directory runs, as which roles, and at which addresses. Exits 6 when it does not, or is not ready.",
	args: {},
	examples: [
		["agent status", "the agent of this user"],
		["agent status --data-dir /srv/gswarm", "another one"],
	],
	next: ["health", "agent stop"],
	async run({ dataDir, out, say, style, world }) {
		const file = readAgentFile(dataDir);
		if (file === undefined || !isAlive(file.pid)) {
			const starting = startingAgent(dataDir);
			if (starting !== undefined) {
				say.error(`The agent ${starting.name} (pid ${starting.pid}) runs and is not ready.`);
				say.hint(`It waits: ${starting.waits_for}`);
				return EXIT.unavailable;
			}
			say.error(
				file === undefined
					? `No agent runs with ${dataDir}.`
					: `No agent runs with ${dataDir}; the last one (pid ${file.pid}) ended without saying so.`,
			);
			say.hint("`gswarm agent` starts it.");
			return EXIT.unavailable;
		}
		await out.show(
			{ ...file, data_dir: dataDir },
			{
				names: () => [file.name],
				human: () =>
					fields(style, [
						["Agent", `${file.role} ${file.name}`],
						["Process", String(file.pid)],
						["Started", formatAge(file.started_at, world.clock.nowMs())],
						["Data", dataDir],
						["Host API", file.host_url],
						["Node API", file.node_url],
						["Parts", file.peer_url],
					]),
			},
		);
		return EXIT.done;
	},
});
