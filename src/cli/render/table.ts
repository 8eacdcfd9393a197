/** Aligned columns for a terminal or a pipe. A row is always one line. */
import type { Style } from "./style.ts";

export interface Column {
	title: string;
	align?: "right";
	/** May be cut with "…" when a terminal is too narrow. Names and ids never are: people copy them. */
	shrink?: boolean;
}

const GAP = "  ";
const SHORTEST = 8;

/**
 * Cells may hold colour; they must hold no line break.
 * `width` is the terminal's, or undefined where nothing is cut.
 */
export function renderTable(
	columns: readonly Column[],
	rows: readonly (readonly string[])[],
	{ width, style }: { width?: number | undefined; style: Style },
): string {
	const widths = columns.map((column, at) =>
		Math.max(Bun.stringWidth(column.title), ...rows.map((row) => Bun.stringWidth(row[at] ?? ""))),
	);
	if (width !== undefined) shrink(columns, widths, width);
	const line = (cells: readonly string[]): string =>
		columns
			.map((column, at) => fit(cells[at] ?? "", widths[at] ?? 0, column.align))
			.join(GAP)
			.trimEnd();
	const head = style.dim(line(columns.map((column) => column.title)));
	return [head, ...rows.map(line)].join("\n");
}

/** Text cut to a width, with "…" as its last column. */
export function cut(text: string, width: number): string {
	if (Bun.stringWidth(text) <= width) return text;
	let kept = "";
	let used = 0;
	for (const { segment } of new Intl.Segmenter().segment(Bun.stripANSI(text))) {
		const more = Bun.stringWidth(segment);
		if (used + more > width - 1) break;
		kept += segment;
		used += more;
	}
	return `${kept}…`;
}

function shrink(columns: readonly Column[], widths: number[], limit: number): void {
	const total = (): number => widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));
	while (total() > limit) {
		let widest = -1;
		for (const [at, column] of columns.entries()) {
			if (column.shrink !== true || (widths[at] ?? 0) <= SHORTEST) continue;
			if (widest < 0 || (widths[at] ?? 0) > (widths[widest] ?? 0)) widest = at;
		}
		if (widest < 0) return;
		widths[widest] = Math.max(SHORTEST, (widths[widest] ?? 0) - Math.max(1, Math.min(8, total() - limit)));
	}
}

function fit(cell: string, width: number, align: "right" | undefined): string {
	const text = cut(cell, width);
	const padding = " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
	return align === "right" ? padding + text : text + padding;
}
