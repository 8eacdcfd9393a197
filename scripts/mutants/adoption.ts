/** What lies in other programs' stores: what may be read of it, and what of it may go. */
import type { Guard } from "./guard.ts";

const LAYOUTS = ["test/source/layouts.test.ts"];
const PRESENT = ["test/cluster/present.test.ts"];
const TWINS = ["test/transfer/twins.test.ts"];
const REPLACE = ["test/service/replace.test.ts"];
const ADOPT = ["test/cluster/adopt.test.ts"];

export const ADOPTION_GUARDS: readonly Guard[] = [
	{
		name: "hard_links_of_own_files",
		file: "src/agent/node/adopt-link.ts",
		find: "if (uid !== process.getuid?.()) throw",
		replace: "if (uid < 0) throw",
		tests: ADOPT,
	},
	{
		name: "shown_through_no_link",
		file: "src/core/storage/presented.ts",
		find: "else if (!info.isDirectory() || info.uid !== process.getuid?.()) {",
		replace: "else if (false) {",
		tests: PRESENT,
	},
	{
		name: "shown_in_private_directories",
		file: "src/agent/node/present-routes.ts",
		find: "(mode & 0o022) === 0",
		replace: "true",
		tests: PRESENT,
	},
	{
		name: "removed_is_shown_no_longer",
		file: "src/core/storage/removal.ts",
		find: "await withdrawCopy(shelf, row);",
		replace: "",
		tests: PRESENT,
	},
	{
		name: "shared_bytes_not_written",
		file: "src/core/transfer/twins.ts",
		find: "await unlinkShared(ledger, file, path);",
		replace: "",
		tests: TWINS,
	},
	{
		name: "damaged_twin_not_taken",
		file: "src/core/transfer/twins.ts",
		find: "found.sha256 === sha256 &&",
		replace: "",
		tests: TWINS,
	},
	{
		name: "damaged_twin_not_linked",
		file: "src/core/storage/shared-files.ts",
		find: "if (await shelf.isRight(twin, file)) await rename(twin, own);",
		replace: "if (file.size_bytes > 0) await rename(twin, own);",
		tests: TWINS,
	},
	{
		name: "shared_bytes_count_once",
		file: "src/core/storage/storage.ts",
		find: " - sharedBytes(shelf, tier.name)",
		replace: "",
		tests: TWINS,
	},
	{
		name: "shared_damage_is_everybodys",
		file: "src/core/storage/storage.ts",
		find: 'await setState(shelf, other, "unavailable");',
		replace: "",
		tests: TWINS,
	},
	{
		name: "name_goes_when_the_new_one_answers",
		file: "src/core/service/service.ts",
		find: "await next.takeName(previous);\n\t\tif (previous",
		replace: "if (previous",
		tests: REPLACE,
	},
	{
		name: "name_is_one_services",
		file: "src/core/service/instance.ts",
		find: "previous.#row.served_name = null;",
		replace: "",
		tests: REPLACE,
	},
	{
		name: "port_goes_with_the_name",
		file: "src/core/service/instance.ts",
		find: "this.#front?.serve(this);",
		replace: "",
		tests: REPLACE,
	},
	{
		name: "snapshot_link_to_a_blob_alone",
		file: "src/core/source/layout-hub.ts",
		find: 'return dirname(blob) === join(repository, "blobs") && BLOB.test(basename(blob)) ? blob : undefined;',
		replace: "return blob;",
		tests: LAYOUTS,
	},
	{
		name: "blob_is_no_link",
		file: "src/core/source/layout-hub.ts",
		find: "if (info?.isFile() !== true)",
		replace: "if (info === undefined)",
		tests: LAYOUTS,
	},
	{
		name: "adopted_path_without_links",
		file: "src/core/source/layouts.ts",
		find: "if (join(folder, relative(named, clean)) === target) return { folder, target };",
		replace: "return { folder, target };",
		tests: LAYOUTS,
	},
	{
		name: "adopted_in_import_folders",
		file: "src/core/source/layouts.ts",
		find: "if (!isInside(folder, target)) {",
		replace: "if (false) {",
		tests: LAYOUTS,
	},
	{
		name: "adopted_blob_is_what_it_is_called",
		file: "src/agent/node/adopt-task.ts",
		find: 'if (digest !== undefined && digest.hex !== hex) throw mismatch(path, digest.hex, hex ?? "");',
		replace: "",
		tests: ADOPT,
	},
	{
		name: "adopted_and_changed_out_of_use",
		file: "src/core/storage/adopted.ts",
		find: "if (changed === undefined) return;",
		replace: "return;",
		tests: ADOPT,
	},
	{
		name: "adopted_is_no_durable_copy",
		file: "src/core/registry/model-store.ts",
		find: "AND tier GLOB 'disk*' AND place = 'store'",
		replace: "AND tier GLOB 'disk*'",
		tests: ADOPT,
	},
	{
		name: "adopted_costs_no_room",
		file: "src/core/storage/copy-index.ts",
		find: 'row?.place === "store" ? row.sizeBytes : 0',
		replace: "row?.sizeBytes ?? 0",
		tests: ADOPT,
	},
	{
		name: "files_of_others_not_mended",
		file: "src/agent/node/verification.ts",
		find: 'if (copy.place === "adopted")',
		replace: "if (false)",
		tests: ADOPT,
	},
	{
		name: "shared_blobs_stay",
		file: "src/core/source/layout-removal.ts",
		find: "if (used.has(path)) kept++;",
		replace: "if (false) kept++;",
		tests: ADOPT,
	},
	{
		name: "delete_files_needs_the_last_copy_leave",
		file: "src/agent/node/removal.ts",
		find: '(copy.place !== "adopted" || deleteFiles)',
		replace: 'copy.place !== "adopted"',
		tests: ADOPT,
	},
];
