/** What an agent says when it is ready: where data goes, how much room there is, and what to type next. */
import type { TierOptions } from "../core/storage/storage.ts";
import { filesystemSpace } from "../platform/filesystem.ts";
import { version } from "../platform/version.ts";
import type { AgentFile } from "./data-dir.ts";

export function banner(d: {
	file: AgentFile;
	tiers: readonly TierOptions[];
	joined: string | undefined;
	dataDir: string;
}): string {
	const { file, tiers, joined, dataDir } = d;
	const lines = [
		`gswarm ${version}: ${file.role === "host+node" ? "host and node" : file.role} ${JSON.stringify(file.name)} is ready`,
		"",
	];
	lines.push(`  data      ${dataDir}`);
	for (const tier of tiers) {
		const free = filesystemSpace(tier.root).freeBytes;
		lines.push(
			`  ${tier.name.padEnd(9)} ${tier.root}  (${(free / 1e9).toFixed(1)} GB free${tier.limitBytes === undefined ? "" : `, budget ${(tier.limitBytes / 1e9).toFixed(1)} GB`})`,
		);
	}
	if (file.host_url !== undefined) lines.push(`  host API  ${file.host_url}`);
	if (file.node_url !== undefined) lines.push(`  node API  ${file.node_url}`);
	if (joined !== undefined) lines.push(`  joined    ${joined}`);
	lines.push("", "Next:", "  gswarm node list");
	if (file.host_url === undefined) lines.push("  gswarm model list");
	else
		lines.push(
			"  gswarm model download hf:org/name",
			"  gswarm token create --join    (to add another machine)",
		);
	lines.push("", "Ctrl-C stops it; `gswarm agent --detach` runs it in the background.", "");
	return lines.join("\n");
}
