import { LOCAL_CONTEXT } from "../../schema/names.ts";
import { changeContexts, contextNamed } from "../context-store.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { context as contextName } from "../values.ts";

export const command = defineCommand({
	about:
		"Makes commands go to another cluster that you have logged in to, from now on. `local` is the agent of this machine. For one command alone there is --context NAME.",
	args: { name: { type: "positional", value: contextName, description: "Name of the context, or local" } },
	examples: [
		["context use work", "the cluster at work"],
		["context use local", "this machine's own agent"],
	],
	next: ["whoami", "context list"],
	async run({ world, out, say }, { name }) {
		const { dataDir, hostUrl } = world.environment;
		const current = name === LOCAL_CONTEXT ? null : name;
		await changeContexts(dataDir, world.clock, (file) => {
			if (current !== null) contextNamed(file, current);
			return { ...file, current };
		});
		await out.show({ current: name }, { names: () => [name], human: () => "" });
		say.success(
			current === null ? "Commands go to this machine's agent." : `Commands go to ${name} from now on.`,
		);
		if (hostUrl !== undefined) say.warn("GSWARM_HOST is set and goes before it; unset it.");
		return EXIT.done;
	},
});
