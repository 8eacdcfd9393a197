import { parseSync, Visitor } from "oxc-parser";

/** Text arguments of every call of `callee` in a TypeScript text, in order; undefined where one is not a literal. */
export function literalCalls(text: string, callee: string): (string | undefined)[][] {
	const found: (string | undefined)[][] = [];
	new Visitor({
		CallExpression(call) {
			if (call.callee.type !== "Identifier" || call.callee.name !== callee) return;
			found.push(call.arguments.map((given) => (given.type === "Literal" ? String(given.value) : undefined)));
		},
	}).visit(parseSync("test.ts", text).program);
	return found;
}
