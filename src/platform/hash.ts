/**
 * Digests. XXH64 (seed 0) finds accidents in a part; sha256 identifies content; a tag, which only those can make who
 * have its key, finds whoever changed a part on its way.
 */
import { createCipheriv } from "node:crypto";
import xxhash from "xxhash-wasm";

/** 16 hex digits, as `xxhsum -H1` prints them. */
export function xxh64Hex(bytes: Uint8Array): string {
	return Bun.hash.xxHash64(bytes).toString(16).padStart(16, "0");
}

export function sha256Hex(data: Uint8Array | string): string {
	return new Bun.CryptoHasher("sha256").update(data).digest("hex");
}

/** By which people compare a public key (base64) on two machines: half of its sha256, in groups of four. */
export function keyFingerprint(publicKey: string): string {
	const hex = sha256Hex(Buffer.from(publicKey, "base64")).slice(0, 32);
	return (hex.match(/.{4}/g) ?? []).join("-");
}

/** An XXH64 that takes its input in pieces; the same digest as xxh64Hex of the whole. */
export interface StreamingXxh64 {
	update(bytes: Uint8Array): void;
	digestHex(): string;
}

export interface StreamingTag {
	update(bytes: Uint8Array): void;
	/** Once. */
	digestHex(): string;
}

const TAG_NONCE_BYTES = 12;

/** The key (hex, 256 bits) of one file of a content that has this secret. */
export function fileTagKey(secret: string, path: string): string {
	return new Bun.CryptoHasher("sha256", secret).update(path).digest("hex");
}

/**
 * GMAC (NIST SP 800-38D: AES-256-GCM with nothing to encrypt) of one part, under the key of its file. It costs a tenth
 * of a sha256. The number of the part is the nonce: a key is for one content, which never changes.
 */
export function createPartTag(key: string, part: number): StreamingTag {
	const nonce = Buffer.alloc(TAG_NONCE_BYTES);
	nonce.writeUInt32BE(part, TAG_NONCE_BYTES - 4);
	const cipher = createCipheriv("aes-256-gcm", Buffer.from(key, "hex"), nonce);
	return {
		update: (bytes) => void cipher.setAAD(bytes),
		digestHex() {
			cipher.final();
			return cipher.getAuthTag().toString("hex");
		},
	};
}

/** Loads the wasm once and returns a maker of streaming hashes. */
export async function createXxh64Factory(): Promise<() => StreamingXxh64> {
	const { create64 } = await xxhash();
	return () => {
		const hash = create64();
		return {
			update: (bytes) => void hash.update(bytes),
			digestHex: () => hash.digest().toString(16).padStart(16, "0"),
		};
	};
}
