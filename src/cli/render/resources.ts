/** What machines have and use, as a table: one line per device, and above it the machine. */
import type { NodeResources, Resources } from "../../schema/resources.ts";
import { formatBytes, formatRate } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

export function resourceTable(
	body: Resources,
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const all = Object.entries(body.nodes ?? { [body.node ?? "this node"]: body });
	const devices = all.flatMap(([node, own]) =>
		Object.entries(own.storage).map(([device, usage]) => {
			const share = usage.total === 0 ? 0 : (100 * (usage.total - usage.available)) / usage.total;
			const load = own.compute[device];
			const busy = load === undefined || "cores" in load ? null : load.usage;
			return [
				safeLine(`${node}:${device}`) + (usage.simulated === true ? style.dim(" (simulated)") : ""),
				formatBytes(usage.total),
				formatBytes(usage.used),
				usage.reserved === 0 ? "-" : formatBytes(usage.reserved),
				formatBytes(usage.available),
				percent(style, share),
				busy === null ? "-" : percent(style, busy),
				...(wide
					? [
							usage.evictable === undefined ? "-" : formatBytes(usage.evictable),
							usage.evicted === undefined || usage.evicted.copies === 0
								? "-"
								: `${usage.evicted.copies}, ${formatBytes(usage.evicted.bytes)}`,
							usage.limit === undefined || usage.limit === null ? "-" : formatBytes(usage.limit),
							usage.filesystem === undefined ? "-" : formatBytes(usage.filesystem.available),
						]
					: []),
			];
		}),
	);
	const machines = all.map(([node, own]) => machineLine(safeLine(node), own, style));
	const extra = ["EVICTABLE", "EVICTED", "BUDGET", "FREE BELOW"].map((title) => ({
		title,
		align: "right" as const,
	}));
	return [
		renderTable(
			[
				{ title: "NODE" },
				{ title: "CORES", align: "right" },
				{ title: "CPU", align: "right" },
				{ title: "MEMORY FREE", align: "right" },
				{ title: "IN", align: "right" },
				{ title: "OUT", align: "right" },
			],
			machines,
			{ width, style },
		),
		"",
		renderTable(
			[
				{ title: "DEVICE" },
				{ title: "TOTAL", align: "right" },
				{ title: "MODELS", align: "right" },
				{ title: "RESERVED", align: "right" },
				{ title: "AVAILABLE", align: "right" },
				{ title: "TAKEN", align: "right" },
				{ title: "BUSY", align: "right" },
				...(wide ? extra : []),
			],
			devices,
			{ width, style },
		),
	].join("\n");
}

function machineLine(
	node: string,
	{ compute: { cpu }, memory, network }: NodeResources,
	style: Style,
): string[] {
	const rate = (value: number | null): string => (value === null ? "-" : formatRate(value));
	return [
		node,
		String(cpu.cores),
		cpu.usage === null ? "-" : percent(style, cpu.usage),
		memory === null || memory === undefined ? "-" : formatBytes(memory.available),
		rate(network.bandwidth.in),
		rate(network.bandwidth.out),
	];
}

function percent(style: Style, value: number): string {
	const text = `${Math.round(value)}%`;
	return value >= 95 ? style.bad(text) : value >= 80 ? style.busy(text) : text;
}
