/** What a source tells of itself and how it is read; the door says what a source is. */
import type { SafePath } from "../../platform/safe-path.ts";
import type { ModelName, Revision } from "../../schema/names.ts";

/** A digest that the source itself claims for a whole file. */
export interface SourceDigest {
	algorithm: "sha256" | "git-sha1";
	hex: string;
}

export interface SourceFile {
	path: SafePath;
	/** Undefined when the source does not tell; such a file comes in one stream and needs a digest or permission. */
	sizeBytes: number | undefined;
	digest: SourceDigest | undefined;
	/** False: only one whole stream from the start, no resume. */
	rangeable: boolean;
	/** Known digests of the parts (a peer's sealed manifest): XXH64 hex per part of `partSizeBytes`. */
	parts: { partSizeBytes: number; xxh64: readonly string[] } | undefined;
}

export type ArchiveKind = "tar" | "tar.gz";

export interface SourceDescription {
	/** The source as a person would name it again, pinned and without secrets, e.g. `hf:acme/tiny@<commit>`. */
	uri: string;
	/** Pinned: commit, digest of a strong ETag, content id. Safe as a path component. */
	revision: Revision;
	/** sha256 over revision, paths, sizes and claimed digests: exists before the first byte and keys joins and resumes. */
	sourceId: string;
	suggestedName: ModelName;
	files: readonly SourceFile[];
	/** Sum of the known sizes. */
	totalBytes: number;
	/** The one file is an archive whose contents are the model. */
	archive: ArchiveKind | undefined;
}

/** What a read brings; `wireBytes` where other bytes came over the line for it, so far. */
export type SourceBody = ReadableStream<Uint8Array> & { wireBytes?: () => number };

/** How a body came. */
export interface Brought {
	wireBytes: number;
	/** From the request to its end. */
	ms: number;
	/** What ended it, other than its end. */
	error?: unknown;
}

/** Half-open byte range. */
export interface ByteRange {
	start: number;
	end: number;
}

export interface Source {
	/** Pins the revision and lists the files. Later reads are of the description that was given last. */
	describe(signal: AbortSignal): Promise<SourceDescription>;
	/**
	 * Opens a range of a file of the description (undefined: the whole file as one stream). The answer was checked:
	 * status, Content-Range, total size and validator all fit, otherwise it throws. The body may end early or fail
	 * when the connection is cut; the caller counts bytes.
	 * @throws GswarmError, retryable or not; reason `source_changed` when size or validator differ, `range_ignored`
	 * when the whole file came instead of the range, `wrong_range` when another one came.
	 */
	read(file: SourceFile, range: ByteRange | undefined, signal: AbortSignal): Promise<SourceBody>;
	/** Hears how what it gave came; whoever reads from several places, or compressed, goes by it. */
	measured?(body: SourceBody, brought: Brought): void;
	/**
	 * Several small files of the description, neighbours in its order, one after the other in one body. Undefined where
	 * the source has no such request.
	 */
	readBundle?(files: readonly SourceFile[], signal: AbortSignal): Promise<SourceBody>;
	/** Where a file can be read directly: a regular file of this machine, opened without following a link. */
	localPath?(file: SourceFile): string | undefined;
	/** Secret of the tags of all that it has, see PeerTags. */
	readonly tagKey?: string | undefined;
	/** Where a file can be had over plain HTTP by a receiver with sockets of its own; undefined where it cannot. */
	plainPeer?(file: SourceFile): PlainPeer | undefined;
}

/** A node that answers ranged GETs over plain HTTP. */
export interface PlainPeer {
	/** A literal address. */
	address: string;
	port: number;
	/** The request, each line with its end, but for its Range and the empty line. Holds the grant. */
	request: string;
	/** Undefined where nobody can tell whether bytes were changed on their way. */
	tags: PeerTags | undefined;
	/** This range is read from it now; what it returns hears once how that ended. */
	used?(range: ByteRange): (brought: Brought) => void;
}

/** What convicts who changes bytes on a line without TLS: the peer makes tags of its bytes, the receiver of what came. */
export interface PeerTags {
	/** Of the file. Both know it by other lines than this one. */
	key: string;
	/** The peer's, of these parts. */
	ask(parts: { first: number; end: number }, signal: AbortSignal): Promise<string[]>;
}
