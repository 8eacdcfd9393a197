/** On which nodes this host is having a source looked at, right now. */
export interface Inspections {
	/** Runs the question to a node; the node may need a secret for it. */
	at<T>(node: string, ask: () => Promise<T>): Promise<T>;
	has(node: string): boolean;
}

export function createInspections(): Inspections {
	const running: string[] = [];
	return {
		async at(node, ask) {
			running.push(node);
			try {
				return await ask();
			} finally {
				running.splice(running.indexOf(node), 1);
			}
		},
		has: (node) => running.includes(node),
	};
}
