/** Writes what is derived from the contract; with `--check` only says what is stale. The gate and a test do that. */
import { contract } from "../src/api/contract.ts";

/** Every generated file: path from the root of the repository, and its text. */
export function generatedFiles(): Record<string, string> {
	return { "src/api/table.gen.ts": routeTable() };
}

/** The table of methods and paths, so that the CLI needs neither zod nor the contract at run time. */
function routeTable(): string {
	const rows = Object.entries(contract).map(
		([id, route]) => `\t${id}: [${JSON.stringify(route.method)}, ${JSON.stringify(route.path)}],`,
	);
	return `// Generated from src/api/contract.ts by scripts/generate.ts; do not edit.\nexport const ROUTES = {\n${rows.join("\n")}\n} as const;\n`;
}

if (import.meta.main) {
	for (const [path, text] of Object.entries(generatedFiles())) {
		const file = Bun.file(new URL(`../${path}`, import.meta.url));
		const isFresh = (await file.exists()) && (await file.text()) === text;
		if (isFresh) continue;
		if (process.argv.includes("--check")) {
			console.error(`${path} is stale: run \`bun scripts/generate.ts\`.`);
			process.exitCode = 1;
		} else {
			await file.write(text);
			console.log(`wrote ${path}`);
		}
	}
}
