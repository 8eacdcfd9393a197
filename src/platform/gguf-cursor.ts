/** The bounds-checked read position of the GGUF parser, and its refusals. Only gguf.ts uses it. */
import { GswarmError } from "../schema/errors.ts";

/** Bytes at any offset. `read` returns fewer than asked only at the end of what there is. */
export interface ByteReader {
	/** Name used in messages. */
	readonly name: string;
	/** Size of the whole file, which may be more than the reader can read. */
	readonly sizeBytes: number;
	read(offset: number, length: number): Uint8Array;
}

/** Value type id → bytes, of the types with a fixed size. */
export const SCALAR_BYTES: readonly (number | undefined)[] = [
	1,
	1,
	2,
	2,
	4,
	4,
	4,
	1,
	undefined,
	undefined,
	8,
	8,
	8,
];

/** A read from the file, so that a header of some MB costs some reads. */
const WINDOW_BYTES = 1 << 20;
/** Chat templates are the longest real strings, some hundred kB. */
const MAX_STRING_BYTES = 8 << 20;
/** The largest real vocabularies make headers of some 20 MB; beyond this the file is hostile. */
const MAX_HEADER_BYTES = 96 << 20;
const BOOL = 7;

type Fault = "not" | "truncated" | "unsupported" | "corrupt";

export function refuse(
	reader: ByteReader,
	fault: Fault,
	what: string,
	details: Record<string, unknown> = {},
): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${reader.name} ${what}.`, {
		reason: `${fault}_gguf`,
		details: { file: reader.name, ...details },
		hint:
			fault === "truncated" || fault === "corrupt"
				? "Download the file again; its hash cannot match."
				: "The embedded engine serves GGUF models; other formats need another engine.",
	});
}

/** A read position over a window of the file, so that a header of some MB costs some reads. */
export class Cursor {
	readonly reader: ByteReader;
	offset = 0;
	#window: Uint8Array = new Uint8Array(0);
	#view = new DataView(this.#window.buffer);
	#windowStart = 0;

	constructor(reader: ByteReader) {
		this.reader = reader;
	}

	u32(): number {
		const at = this.#take(4);
		return this.#view.getUint32(at, true);
	}

	u64(what: string): number {
		const at = this.#take(8);
		const value = this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
		if (value > Number.MAX_SAFE_INTEGER)
			throw refuse(this.reader, "corrupt", `is corrupt: ${what} is ${this.#view.getBigUint64(at, true)}`);
		return value;
	}

	/**
	 * A count of things of at least `minBytes` each, which must fit into the rest of the file.
	 * `most`: more than any model has; what is beyond would only keep us busy.
	 */
	count(what: string, minBytes: number, most = Infinity): number {
		const value = this.u64(what);
		if (value > most && value * minBytes <= this.reader.sizeBytes - this.offset)
			throw refuse(this.reader, "corrupt", `is corrupt: ${what} is ${value}, more than ${most}`);
		if (value * minBytes > this.reader.sizeBytes - this.offset)
			throw refuse(
				this.reader,
				"truncated",
				`is truncated or corrupt: ${what} is ${value}, file has ${this.reader.sizeBytes} bytes`,
			);
		return value;
	}

	stringLength(): number {
		const length = this.u64("string length");
		if (length > MAX_STRING_BYTES)
			throw refuse(
				this.reader,
				"corrupt",
				`is corrupt: a string of ${length} bytes at byte ${this.offset - 8}`,
			);
		return length;
	}

	string(): string {
		const length = this.stringLength();
		const at = this.#take(length);
		return new TextDecoder().decode(this.#window.subarray(at, at + length));
	}

	scalar(type: number): number | boolean {
		const bytes = SCALAR_BYTES[type];
		if (bytes === undefined)
			throw refuse(
				this.reader,
				"corrupt",
				`is corrupt: value type ${type} at byte ${this.offset - 4} is unknown`,
			);
		const at = this.#take(bytes);
		if (type === BOOL) return this.#view.getUint8(at) !== 0;
		return readNumber(this.#view, at, type);
	}

	/** Steps over strings, of which a vocabulary has hundreds of thousands. */
	skipStrings(count: number): void {
		for (let index = 0; index < count; index++) {
			const at = this.offset - this.#windowStart;
			// The usual case, without the steps of the general one.
			if (at >= 0 && at + 8 <= this.#window.length && this.#view.getUint32(at + 4, true) === 0) {
				const end = this.offset + 8 + this.#view.getUint32(at, true);
				if (end <= this.#windowStart + this.#window.length) {
					this.offset = end;
					continue;
				}
			}
			this.skip(this.stringLength());
		}
	}

	skip(length: number): void {
		this.#need(length);
		this.offset += length;
	}

	/** Makes the next `length` bytes available, steps over them and returns where in the window they are. */
	#take(length: number): number {
		this.#need(length);
		const inWindow =
			this.offset >= this.#windowStart && this.offset + length <= this.#windowStart + this.#window.length;
		if (!inWindow) {
			const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.reader.sizeBytes - this.offset);
			this.#window = this.reader.read(this.offset, wanted);
			this.#view = new DataView(this.#window.buffer, this.#window.byteOffset, this.#window.byteLength);
			this.#windowStart = this.offset;
			if (this.#window.length < length) throw this.#tooShort(length);
		}
		const at = this.offset - this.#windowStart;
		this.offset += length;
		return at;
	}

	#need(length: number): void {
		const end = this.offset + length;
		if (end > this.reader.sizeBytes) throw this.#tooShort(length);
		if (end > MAX_HEADER_BYTES)
			throw refuse(this.reader, "corrupt", `is corrupt: its header is larger than ${MAX_HEADER_BYTES} bytes`);
	}

	#tooShort(length: number): GswarmError {
		const needed = this.offset + length;
		return refuse(
			this.reader,
			"truncated",
			`is truncated: header needs at least ${needed} bytes, file has ${this.reader.sizeBytes}`,
			{ required: needed, actual: this.reader.sizeBytes },
		);
	}
}

function readNumber(view: DataView, at: number, type: number): number {
	switch (type) {
		case 0:
			return view.getUint8(at);
		case 1:
			return view.getInt8(at);
		case 2:
			return view.getUint16(at, true);
		case 3:
			return view.getInt16(at, true);
		case 4:
			return view.getUint32(at, true);
		case 5:
			return view.getInt32(at, true);
		case 6:
			return view.getFloat32(at, true);
		case 10:
			return Number(view.getBigUint64(at, true));
		case 11:
			return Number(view.getBigInt64(at, true));
		default:
			return view.getFloat64(at, true);
	}
}
