/** What is read to be adopted is read below the import folder, whoever renames what there meanwhile. */
import { expect, test } from "bun:test";
import { mkdirSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adoptTask, type AdoptDependencies } from "../../src/agent/node/adopt-task.ts";
import type { TaskContext } from "../../src/core/queue/queue.ts";
import type { SourceContext } from "../../src/core/source/source.ts";
import type { AdoptInput, Storage } from "../../src/core/storage/storage.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { createIoPool, type IoPool } from "../../src/platform/io-pool.ts";
import { tempDir } from "../support/temp-dir.ts";

test("a folder that becomes a link while its files are hashed does not lead the agent to files elsewhere", async () => {
	using dir = tempDir();
	const root = realpathSync(dir.path);
	const [folder, elsewhere] = [join(root, "import"), join(root, "elsewhere")];
	const model = join(folder, "model");
	for (const path of [model, elsewhere]) mkdirSync(path, { recursive: true });
	writeFileSync(join(model, "config.json"), "what is to be adopted");
	writeFileSync(join(elsewhere, "config.json"), "secret, as long as it");
	await using pool = createIoPool();
	const io: IoPool = {
		...pool,
		async hashFile(input, signal, onBytes) {
			renameSync(model, `${model}.away`);
			symlinkSync(elsewhere, model);
			try {
				return await pool.hashFile(input, signal, onBytes);
			} finally {
				rmSync(model);
				renameSync(`${model}.away`, model);
			}
		},
	};
	const taken: AdoptInput[] = [];
	const storage = {
		adopt: (input: AdoptInput) => {
			taken.push(input);
			return Promise.resolve({});
		},
	} as unknown as Storage;
	const sources = { importDirectories: [folder] } as unknown as SourceContext;
	const context = {
		taskId: "task",
		request: { model_name: "acme/tiny", path: model, device: "node1:disk", model_type: null },
		signal: new AbortController().signal,
		state: null,
		report: () => {},
		saveState: () => Promise.resolve(),
	} as unknown as TaskContext;
	const dependencies: AdoptDependencies = { storage, io, sources };
	await adoptTask(dependencies, context, "disk");
	expect(taken[0]?.manifest.files.map(({ sha256 }) => sha256)).toEqual([sha256Hex("what is to be adopted")]);
});
