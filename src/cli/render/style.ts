/** Colours by meaning; without colour every one is the identity. */

export interface Style {
	bold(text: string): string;
	dim(text: string): string;
	good(text: string): string;
	bad(text: string): string;
	busy(text: string): string;
	accent(text: string): string;
}

const CODES = {
	bold: [1, 22],
	dim: [2, 22],
	good: [32, 39],
	bad: [31, 39],
	busy: [33, 39],
	accent: [36, 39],
} as const;

export function createStyle(colour: boolean): Style {
	const paint = (kind: keyof typeof CODES) => (text: string) =>
		colour && text !== "" ? `\u001b[${CODES[kind][0]}m${text}\u001b[${CODES[kind][1]}m` : text;
	return {
		bold: paint("bold"),
		dim: paint("dim"),
		good: paint("good"),
		bad: paint("bad"),
		busy: paint("busy"),
		accent: paint("accent"),
	};
}

/** A status word in the colour of its meaning. */
export function paintStatus(style: Style, status: string): string {
	if (/^(ready|alive|ok|completed)$/.test(status)) return style.good(status);
	if (/^(failed|dead|unavailable|unhealthy|unreachable|degraded)$/.test(status)) return style.bad(status);
	if (/^(running|downloading|moving|queued|pending|starting|stopping|suspect|waiting)$/.test(status))
		return style.busy(status);
	return status;
}
