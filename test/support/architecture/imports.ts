import { dirname, join } from "node:path";
import { type Comment, type Program, parseSync, Visitor } from "oxc-parser";

/** A file that another one names, however it does so. */
export interface Import {
	/** As it stands in the text. */
	specifier: string;
	/** Path from the root of the repository; undefined for a package. */
	path: string | undefined;
	line: number;
	/** `import()` in code: loaded when it is needed. */
	lazy: boolean;
	/** `export … from`: names of another file handed on; `star` for all of them. */
	reExport: "named" | "star" | undefined;
}

export interface Source {
	path: string;
	text: string;
	program: Program;
	comments: readonly Comment[];
	imports: readonly Import[];
}

/**
 * Reads a TypeScript file and everything it imports: values, types, `import()` in code and in types, re-exports,
 * `require`, imports with attributes, and what `new URL("./worker.ts", import.meta.url)` names.
 * @throws Error when the text does not parse, so that no rule is green because it saw nothing
 */
export function readSource(path: string, text: string): Source {
	const { module, program, comments, errors } = parseSync(path, text);
	const [error] = errors;
	if (error !== undefined) throw new Error(`${path} does not parse: ${error.message}`);
	const imports: Import[] = [];
	const add = (
		specifier: unknown,
		start: number,
		{ lazy = false, reExport }: Partial<Pick<Import, "lazy" | "reExport">> = {},
	): void => {
		// A dynamic import of a computed name stays visible as such; no rule allows it.
		const name = typeof specifier === "string" ? specifier : "<computed>";
		const relative = name.startsWith(".");
		imports.push({
			specifier: name,
			path: relative ? join(dirname(path), name) : undefined,
			line: lineOf(text, start),
			lazy,
			reExport,
		});
	};
	for (const { moduleRequest, start } of module.staticImports) add(moduleRequest.value, start);
	for (const { entries, start } of module.staticExports) {
		for (const { moduleRequest, exportName } of entries) {
			if (moduleRequest !== null)
				add(moduleRequest.value, start, { reExport: exportName.name === null ? "star" : "named" });
		}
	}
	new Visitor({
		ImportExpression: ({ source, start }) =>
			add(source.type === "Literal" ? source.value : undefined, start, { lazy: true }),
		TSImportType: ({ source, start }) => add(source.value, start),
		TSExternalModuleReference: ({ expression, start }) => add(expression.value, start),
		CallExpression({ callee, arguments: [first], start }) {
			if (callee.type === "Identifier" && callee.name === "require" && first?.type === "Literal") {
				add(first.value, start);
			}
		},
		NewExpression({ callee, arguments: [first, base], start }) {
			const isUrl = callee.type === "Identifier" && callee.name === "URL" && base !== undefined;
			if (isUrl && first?.type === "Literal" && /^\.{1,2}\/.*\.ts$/.test(String(first.value)))
				add(first.value, start);
		},
	}).visit(program);
	return { path, text, program, comments, imports };
}

export function lineOf(text: string, offset: number): number {
	return text.slice(0, offset).split("\n").length;
}
