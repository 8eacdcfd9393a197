/** What people type for objects of a bucket: `s3://bucket/prefix`, `gs://bucket/key`. */

export interface BucketUri {
	kind: "bucket";
	scheme: "s3" | "gs";
	bucket: string;
	/** Without a slash at either end; empty: the whole bucket. */
	key: string;
	/** It was written with a slash at its end: a prefix, never one object. */
	isFolder: boolean;
}

/** The rules of S3, which are narrower than those of others. */
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/;
const MAX_KEY_BYTES = 1024;

/** What is wrong with the text, or what it says. */
export function parseBucketUrl(scheme: "s3" | "gs", text: string): BucketUri | { problem: string } {
	const [, bucket = "", path = ""] = /^[A-Za-z0-9]+:\/\/([^/]*)(?:\/(.*))?$/s.exec(text) ?? [];
	if (!BUCKET.test(bucket) || bucket.includes("..") || /^\d+(\.\d+){3}$/.test(bucket))
		return { problem: `${JSON.stringify(bucket.slice(0, 80))} is no bucket's name` };
	if (/[?#]/.test(path))
		return { problem: "a key has no ? and no #; they are not written as in a web address" };
	const key = path.replace(/\/+$/, "");
	if (Buffer.byteLength(key) > MAX_KEY_BYTES)
		return { problem: `its key is longer than ${MAX_KEY_BYTES} bytes` };
	if (key.split("/").some((segment) => segment === "." || segment === ".."))
		return { problem: "its key goes up" };
	return { kind: "bucket", scheme, bucket, key, isFolder: key === "" || path.endsWith("/") };
}

export function formatBucketUri({ scheme, bucket, key, isFolder }: BucketUri): string {
	return `${scheme}://${bucket}/${key}${isFolder && key !== "" ? "/" : ""}`;
}
