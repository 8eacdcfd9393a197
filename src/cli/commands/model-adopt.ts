import type { Adoptable } from "../../schema/adoption.ts";
import { invalid } from "../../schema/errors.ts";
import type { ApiClient } from "../../api/client.ts";
import { resolve } from "node:path";
import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { shellWord } from "../render/shell-word.ts";
import { adoptableTable } from "../render/adoptables.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { device, model, node, path } from "../values.ts";

export const command = defineCommand({
	about: `Registers models that lie on a node already, where they lie: a Hugging Face cache (the whole of it, one repository or one snapshot), an Ollama store, a folder, or a .gguf or .safetensors file. Nothing is copied: every file is read once, and the model is ready to be served and copied from there. Each snapshot becomes a revision of its model.
PATH is one of the node, in one of its import folders (\`import_folders\` in its config.yaml). \`gswarm model delete\` forgets an adopted copy and leaves the files, unless --delete-files is given.`,
	args: {
		path: {
			type: "positional",
			many: true,
			value: path,
			description: "What to adopt on the node; may be several",
		},
		node: {
			type: "string",
			value: node,
			valueHint: "NODE",
			description: "The node on which it lies (default: the only one)",
		},
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Count it to this disk of the node, e.g. node1:disk1",
		},
		as: {
			type: "string",
			value: model,
			valueHint: "NAME",
			description: "Another name, where there is one model",
		},
		type: { type: "string", valueHint: "TYPE", description: "Its type, e.g. llm (default: guessed)" },
		link: {
			type: "boolean",
			description: "Make it the store's own, by reflinks, or hard links of the agent's user's own files",
		},
		"dry-run": { type: "boolean", description: "Only list what there is" },
		wait: WAIT_ARG,
	},
	examples: [
		["model adopt ~/.cache/huggingface/hub --dry-run", "what a Hugging Face cache has"],
		["model adopt ~/.cache/huggingface/hub", "all of it"],
		["model adopt /srv/models/tiny.gguf --node node2 --as acme/tiny", "one file of another node"],
		["model adopt /usr/share/ollama/.ollama/models", "every model of an Ollama store"],
	],
	next: ["model list", "model serve NAME"],
	async run(context, values) {
		const { api, out, say, style, width } = context;
		const client = await api();
		const where = values.device ?? (values.node === undefined ? undefined : `${values.node}:disk`);
		const found: Found[] = [];
		for (const named of values.path) {
			const at = { path: resolve(named), ...(where === undefined ? {} : { device: where }) };
			const answer = await client.call("findAdoptable", { body: at });
			if (answer.found.length === 0) say.info(`There is nothing to adopt at ${at.path} on ${answer.node}.`);
			found.push(...answer.found.map((one) => ({ ...one, device: answer.device })));
		}
		if (values["dry-run"] || found.length === 0) {
			await out.show(
				{ found },
				{
					names: () => found.map((one) => one.path),
					human: (wide) => adoptableTable(found, { style, width: wide ? undefined : width, wide }),
				},
			);
			if (found.length > 0) say.next([`model adopt ${wordsOf(values)}`]);
			return EXIT.done;
		}
		if (values.as !== undefined && new Set(found.map((one) => one.model_name ?? one.path)).size > 1) {
			throw invalid(
				"bad_argument",
				`--as names one model, and there are ${found.length} at ${values.path.join(" and ")}.`,
				{},
				"`gswarm model adopt PATH --dry-run -o wide` lists their paths; name one of them.",
			);
		}
		let worst: number = EXIT.done;
		for (const one of found) {
			const code = await adoptOne(context, client, one, values);
			if (code !== EXIT.done && worst === EXIT.done) worst = code;
		}
		return worst;
	},
});

type Found = Adoptable & { device: string };

/** What was asked for, for the same command without --dry-run. */
function wordsOf(values: {
	path: readonly string[];
	node?: string | undefined;
	device?: string | undefined;
	as?: string | undefined;
	type?: string | undefined;
	link: boolean;
}): string {
	const given = (["node", "device", "as", "type"] as const).flatMap((flag) => {
		const value = values[flag];
		return value === undefined ? [] : [`--${flag}`, value];
	});
	return [...values.path, ...given, ...(values.link ? ["--link"] : [])].map(shellWord).join(" ");
}

async function adoptOne(
	context: Context,
	client: ApiClient,
	one: Found,
	{
		as,
		type,
		link,
		wait,
	}: { as?: string | undefined; type?: string | undefined; link: boolean; wait: boolean },
): Promise<number> {
	const { say } = context;
	const { device: where } = one;
	const name = as ?? one.model_name;
	if (one.adopted_as !== null && (as === undefined || as === one.adopted_as)) {
		say.info(`${one.path} is adopted already, as ${one.adopted_as}.`);
		return EXIT.done;
	}
	if (one.problem !== null || name === null) {
		say.error(
			`${one.path} was not adopted: ${one.problem ?? "its name is none that a model can have; give it one with --as"}`,
		);
		return EXIT.failed;
	}
	const submitted = await client.call("adoptModel", {
		params: { model_name: name },
		body: {
			path: one.path,
			device: where,
			...(type === undefined ? {} : { model_type: type }),
			...(link ? { link } : {}),
		},
	});
	const what = one.revision === null ? name : `${name}@${one.revision.slice(0, 12)}`;
	return await settle(context, submitted, {
		wait,
		telling: {
			title: `${what} at ${one.path}`,
			done: (task) =>
				`Adopted ${what} on ${resultText(task, "device") ?? where}, ${link ? "into the store" : "where it lies"}`,
			next: () => [`model show ${name}`, `model serve ${name}`],
		},
	});
}
