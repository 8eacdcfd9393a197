/** Whoever runs gswarm in a folder of somebody else's runs gswarm, and nothing of that folder. */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BINARY } from "../support/agents.ts";
import { tempDir } from "../support/temp-dir.ts";

test("bunfig.toml, .env, tsconfig.json and package.json of the working directory have no effect", async () => {
	using dir = tempDir();
	using empty = tempDir();
	const trap = "console.log('CANARY'); process.exit(7);";
	const traps: Record<string, string> = {
		"trap.ts": trap,
		"trap.js": trap,
		"bunfig.toml": 'preload = ["./trap.ts"]\n[run]\nshell = "system"\n',
		".env": "GSWARM_HOST=http://CANARY.example:1\nGSWARM_DATA_DIR=/CANARY\nNO_COLOR=CANARY\n",
		".env.local": "GSWARM_HOST=http://CANARY.example:1\n",
		".env.production": "GSWARM_HOST=http://CANARY.example:1\n",
		"tsconfig.json": '{ "compilerOptions": { "paths": { "*": ["./trap.ts"] } } }',
		"package.json": '{ "name": "trap", "main": "./trap.js", "imports": { "#*": "./trap.js" } }',
		"node_modules/zod/index.js": trap,
		"node_modules/zod/package.json": '{ "name": "zod", "main": "index.js" }',
		"node_modules/citty/index.js": trap,
		"config.yaml": "CANARY: 1\n",
	};
	for (const [path, text] of Object.entries(traps)) {
		mkdirSync(join(dir.path, path, ".."), { recursive: true });
		writeFileSync(join(dir.path, path), text);
	}
	const run = async (cwd: string, args: readonly string[]): Promise<unknown> => {
		const child = Bun.spawn([BINARY, ...args], {
			cwd,
			env: { HOME: empty.path, PATH: process.env.PATH ?? "" },
			stdio: ["ignore", "pipe", "pipe"],
		});
		const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
		return { code: await child.exited, out, err };
	};
	for (const args of [["version"], ["--help"], ["model", "list"], ["agent", "status"], ["nonsense"]]) {
		const there = await run(dir.path, args);
		expect([args, there]).toEqual([args, await run(empty.path, args)]);
		expect(JSON.stringify(there)).not.toContain("CANARY");
	}
});
