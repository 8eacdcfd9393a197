/** The two ends of a copy or move: as flags, or as the two words after the name. */
import { invalid } from "../schema/errors.ts";

interface Ends {
	source: string | undefined;
	target: string | undefined;
	from: string | undefined;
	to: string | undefined;
}

/** @throws INVALID_REQUEST usage when an end is missing or named twice */
export function fromAndTo(command: string, { source, target, from, to }: Ends): { from: string; to: string } {
	const hint = `\`${command} NAME --from node1:disk --to node2:disk\`; \`gswarm node list\` shows the devices.`;
	// With one end as a flag, the one word is the other end.
	const words = [source, target].filter((word) => word !== undefined);
	const ends = { from: from ?? words.shift(), to: to ?? words.shift() };
	if (words.length > 0)
		throw invalid("usage", `${JSON.stringify(words[0])} is one device too many.`, {}, hint);
	if (ends.from === undefined) throw invalid("usage", "The device to take it from is missing.", {}, hint);
	if (ends.to === undefined) throw invalid("usage", "The device to bring it to is missing.", {}, hint);
	return { from: ends.from, to: ends.to };
}
