/** Splits what comes in pieces into lines; a line longer than the limit, its end still to come, ends it with an error. */
export function createLineReader(
	onLine: (line: string) => void,
	{ maxChars }: { maxChars: number },
): (piece: Uint8Array) => void {
	const decoder = new TextDecoder();
	let waiting: string[] = [];
	let waitingChars = 0;
	return (piece) => {
		const text = decoder.decode(piece, { stream: true });
		const lines = text.split("\n");
		const rest = lines.pop() ?? "";
		if (lines.length > 0) {
			lines[0] = waiting.join("") + lines[0];
			[waiting, waitingChars] = [[], 0];
		}
		waiting.push(rest);
		waitingChars += rest.length;
		for (const line of lines) onLine(line);
		if (waitingChars > maxChars) throw new Error(`a line of more than ${maxChars} characters`);
	};
}
