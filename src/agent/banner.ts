/** What an agent says when it is ready: where data goes, how much room there is, and what to type next. */
import type { TierOptions } from "../core/storage/storage.ts";
import { filesystemSpace } from "../platform/filesystem.ts";
import { isLoopback } from "../platform/plain-http.ts";
import type { GpuSummary } from "../schema/accelerator.ts";
import { version } from "../platform/version.ts";
import type { AgentFile } from "./data-dir.ts";

export function banner(d: {
	file: AgentFile;
	/** For other machines, and for people. */
	urls: { host: string | undefined; node: string | undefined };
	tiers: readonly TierOptions[];
	gpus: readonly GpuSummary[];
	joined: string | undefined;
	dataDir: string;
}): string {
	const { file, urls, tiers, gpus, joined, dataDir } = d;
	const lines = [
		`gswarm ${version}: ${file.role === "host+node" ? "host and node" : file.role} ${JSON.stringify(file.name)} is ready`,
		"",
	];
	lines.push(`  data      ${dataDir}`);
	for (const tier of tiers) {
		const free = filesystemSpace(tier.root).freeBytes;
		lines.push(
			`  ${tier.name.padEnd(9)} ${tier.root}  (${sized(free)} free${tier.limitBytes === undefined ? "" : `, budget ${sized(tier.limitBytes)}`})`,
		);
	}
	for (const { device, product, problem } of gpus)
		lines.push(`  ${device.padEnd(9)} ${product}${problem === null ? "" : `: cannot be used, ${problem}`}`);
	if (urls.host !== undefined) lines.push(`  host API  ${urls.host}`);
	if (urls.node !== undefined) lines.push(`  node API  ${urls.node}`);
	if (joined !== undefined) lines.push(`  joined    ${joined}`);
	lines.push("", "Next:", "  gswarm node list", ...nextOf(urls.host));
	lines.push("", "Ctrl-C stops it; `gswarm agent --detach` runs it in the background.", "");
	return lines.join("\n");
}

/** A budget of some megabytes is not 0.0 GB. */
function sized(bytes: number): string {
	return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function nextOf(host: string | undefined): string[] {
	if (host === undefined) return ["  gswarm model list"];
	const download = "  gswarm model download hf:org/name";
	if (!isLoopback(new URL(host).hostname)) {
		return [download, "  gswarm token create --join    (prints what to paste on another machine)"];
	}
	return [
		download,
		"  gswarm token create --join    (to add another node of this machine)",
		"  gswarm agent --bind 0.0.0.0   (so that other machines can join too)",
	];
}
