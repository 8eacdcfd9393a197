import { commit, version } from "../../platform/version.ts";
import { GswarmError } from "../../schema/errors.ts";
import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";

export const command = defineCommand({
	about:
		"Prints the version of this program and, when one answers, of the agent. `gswarm --version` prints the first alone, at once.",
	args: {},
	examples: [["version", "both versions"]],
	async run(context) {
		const body = {
			version,
			commit: commit ?? null,
			bun: Bun.version,
			platform: `${process.platform}-${process.arch}`,
			agent_version: await agentVersion(context),
		};
		await context.out.show(body, {
			names: () => [version],
			human: () =>
				fields(context.style, [
					["gswarm", body.commit === null ? version : `${version} (${body.commit})`],
					["Bun", body.bun],
					["Platform", body.platform],
					["Agent", body.agent_version ?? "none answers"],
				]),
		});
		return EXIT.done;
	},
});

async function agentVersion({ api }: Context): Promise<string | null> {
	try {
		return (await (await api()).call("health", {})).details?.version ?? null;
	} catch (error) {
		// Having no agent is an answer here.
		if (error instanceof GswarmError) return null;
		throw error;
	}
}
