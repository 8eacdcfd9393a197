/** Names and paths that come from outside. */
import type { Guard } from "./guard.ts";

export const PATHS_GUARDS: readonly Guard[] = [
	{
		name: "model_name",
		file: "src/schema/names.ts",
		find: '!text.includes("..") &&\n\t\t!text\n',
		replace: "!text\n",
		tests: ["test/schema/names.test.ts"],
	},
	{
		name: "node_name_reserved",
		file: "src/schema/names.ts",
		find: "if (!RESERVED_NODES.includes(name)) return name;",
		replace: "return name;",
		tests: ["test/schema/names.test.ts"],
	},
	{
		name: "path_dots",
		file: "src/platform/safe-path.ts",
		find: 'if (["", ".", ".."].includes(folded)) return `it has the segment ${JSON.stringify(segment)}`;',
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_windows_characters",
		file: "src/platform/safe-path.ts",
		find: "FORBIDDEN.test(text) || ",
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_invisible_characters",
		file: "src/platform/safe-path.ts",
		find: " || INVISIBLE.test(text)",
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_windows_devices",
		file: "src/platform/safe-path.ts",
		find: 'if (WINDOWS_DEVICE.test(segment)) return `"${segment}" is a device name on Windows`;',
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_trailing_dot",
		file: "src/platform/safe-path.ts",
		find: 'segment.endsWith(".") || ',
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_normal_form",
		file: "src/platform/safe-path.ts",
		find: 'if (text.normalize("NFC") !== text) return "it is not in Unicode normal form C";',
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_well_formed",
		file: "src/platform/safe-path.ts",
		find: 'if (!text.isWellFormed()) return "it is not well-formed Unicode";',
		replace: "",
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_our_names",
		file: "src/platform/safe-path.ts",
		find: 'if (folded.startsWith(".GSWARM"))',
		replace: 'if (segment.startsWith(".gswarm"))',
		tests: ["test/platform/safe-path.test.ts"],
	},
	{
		name: "path_collisions",
		file: "src/core/source/description.ts",
		find: "if (files.has(folded))",
		replace: "if (false)",
		tests: ["test/source/description.test.ts"],
	},
	{
		name: "manifest_collisions",
		file: "src/core/storage/sealed-manifest.ts",
		find: "if (files.size !== paths.length)",
		replace: "if (false)",
		tests: ["test/storage/publish.test.ts"],
	},
];
