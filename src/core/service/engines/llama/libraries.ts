/**
 * Where the native libraries of the engine come from. From source they lie in node_modules. The build replaces
 * this module's text: by the list of embedded files, or, for a target without a library pack, by `absent`.
 */

export interface EmbeddedFile {
	/** Path below the engine directory. */
	path: string;
	/** Size after decompression. */
	sizeBytes: number;
	/** The zstd-compressed content inside the binary. */
	asset: string;
}

export type EngineLibraries =
	| { kind: "source" }
	| { kind: "absent"; target: string }
	| { kind: "embedded"; version: string; hash: string; files: readonly EmbeddedFile[] };

export const engineLibraries: EngineLibraries = { kind: "source" };
