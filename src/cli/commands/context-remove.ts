import { changeContexts, contextNamed } from "../context-store.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { context as contextName } from "../values.ts";

export const command = defineCommand({
	about:
		"Forgets a cluster that you have logged in to, with its token. The token itself stays good until an admin revokes it.",
	args: { name: { type: "positional", value: contextName, description: "Name of the context" } },
	examples: [["context remove work", "this machine no longer talks to it"]],
	next: ["context list"],
	async run({ world, out, say }, { name }) {
		const { dataDir } = world.environment;
		let wasInUse = false;
		await changeContexts(dataDir, world.clock, (file) => {
			contextNamed(file, name);
			wasInUse = file.current === name;
			return {
				current: wasInUse ? null : file.current,
				contexts: file.contexts.filter((one) => one.name !== name),
			};
		});
		await out.show({ removed: name }, { names: () => [name], human: () => "" });
		say.success(
			`Forgot ${name}.${wasInUse ? " It was in use: commands go to this machine's agent now." : ""}`,
		);
		return EXIT.done;
	},
});
