/** Writes what is derived from the contract: `src/api/table.gen.ts`. A test fails when it is stale. */
import { contract } from "../src/api/contract.ts";

/** The table of methods and paths, so that the CLI needs neither zod nor the contract at run time. */
export function routeTable(): string {
	const rows = Object.entries(contract).map(
		([id, route]) => `\t${id}: [${JSON.stringify(route.method)}, ${JSON.stringify(route.path)}],`,
	);
	return `// Generated from src/api/contract.ts by scripts/generate.ts; do not edit.\nexport const ROUTES = {\n${rows.join("\n")}\n} as const;\n`;
}

if (import.meta.main) {
	await Bun.write(new URL("../src/api/table.gen.ts", import.meta.url), routeTable());
}
