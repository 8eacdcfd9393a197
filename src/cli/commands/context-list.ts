import { LOCAL_CONTEXT } from "../../schema/names.ts";
import { readContexts } from "../context-store.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { renderTable } from "../render/table.ts";

export const command = defineCommand({
	about:
		"Lists the clusters that you have logged in to, and marks the one that commands go to. `local` is the agent of this machine. Which one a command takes: --data-dir or --context, else GSWARM_HOST (with GSWARM_TOKEN_FILE and GSWARM_CA_FILE), else the context in use, else this machine's agent.",
	args: {},
	examples: [["context list", "where could commands go?"]],
	next: ["context use NAME", "login URL"],
	async run({ world, out, say, style, width }) {
		const { current, contexts } = readContexts(world.environment.dataDir);
		const body = {
			current: current ?? LOCAL_CONTEXT,
			contexts: contexts.map(({ name, url, user, role, cluster_id }) => ({
				name,
				url,
				user,
				role,
				cluster_id,
			})),
		};
		await out.show(body, {
			names: () => [LOCAL_CONTEXT, ...body.contexts.map((one) => one.name)],
			human: () =>
				renderTable(
					[
						{ title: "IN USE" },
						{ title: "CONTEXT" },
						{ title: "HOST" },
						{ title: "AS", shrink: true },
						{ title: "ROLE" },
					],
					[
						[current === null ? "*" : "", LOCAL_CONTEXT, "this machine's agent", "-", "-"],
						...body.contexts.map((one) =>
							[one.name === current ? "*" : "", one.name, one.url, one.user, one.role].map(safeLine),
						),
					],
					{ width, style },
				),
		});
		if (world.environment.hostUrl !== undefined)
			say.warn("GSWARM_HOST is set and goes before the context in use.");
		if (contexts.length === 0) say.next(["login URL"]);
		return EXIT.done;
	},
});
