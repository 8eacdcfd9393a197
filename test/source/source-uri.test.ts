import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
	archiveKind,
	formatSourceUri,
	parseSourceUri,
	suggestedName,
} from "../../src/core/source/source-uri.ts";
import { GswarmError } from "../../src/schema/errors.ts";

const SHA = "ab".repeat(32);
const hub = (repository: string, more: object = {}) => ({
	kind: "hub",
	repository,
	revision: undefined,
	quantisation: undefined,
	path: undefined,
	...more,
});
const artifact = (scheme: string, host: unknown, repository: string, reference: unknown) => ({
	kind: "registry",
	scheme,
	host,
	repository,
	reference,
});

describe("what people type", () => {
	test.each([
		["acme/tiny", hub("acme/tiny")],
		["hf:acme/tiny", hub("acme/tiny")],
		["hf://acme/tiny", hub("acme/tiny")],
		["HF:acme/tiny", hub("acme/tiny")],
		["hf:gpt2", hub("gpt2")],
		["hf:acme/tiny@main", hub("acme/tiny", { revision: "main" })],
		["hf:acme/tiny@refs/pr/3", hub("acme/tiny", { revision: "refs/pr/3" })],
		["hf:acme/tiny:Q4_K_M", hub("acme/tiny", { quantisation: "Q4_K_M" })],
		["acme/tiny@v1.0:q8_0", hub("acme/tiny", { revision: "v1.0", quantisation: "q8_0" })],
		["https://huggingface.co/acme/tiny", hub("acme/tiny")],
		["https://huggingface.co/acme/tiny/", hub("acme/tiny")],
		["https://hf.co/acme/tiny?library=x", hub("acme/tiny")],
		["https://huggingface.co/acme/tiny/tree/v2", hub("acme/tiny", { revision: "v2" })],
		["https://huggingface.co/acme/tiny/tree/refs/pr/1", hub("acme/tiny", { revision: "refs/pr/1" })],
		[
			"https://huggingface.co/acme/tiny/resolve/main/sub/x.gguf?download=true",
			hub("acme/tiny", { revision: "main", path: "sub/x.gguf" }),
		],
		[
			"https://huggingface.co/acme/tiny/blob/main/a%20b.txt",
			hub("acme/tiny", { revision: "main", path: "a b.txt" }),
		],
		["http://127.0.0.1:4777/acme/tiny", hub("acme/tiny")],
		[
			"https://files.example/m/x.gguf",
			{ kind: "http", url: "https://files.example/m/x.gguf", sha256: undefined },
		],
		[
			`https://files.example/x.gguf?sig=1#sha256=${SHA.toUpperCase()}`,
			{ kind: "http", url: "https://files.example/x.gguf?sig=1", sha256: SHA },
		],
		["https://files.example/x#other", { kind: "http", url: "https://files.example/x", sha256: undefined }],
		["ollama:llama3:8b", artifact("ollama", undefined, "library/llama3", "8b")],
		["ollama://ann/tiny", artifact("ollama", undefined, "ann/tiny", undefined)],
		[`ollama:llama3@sha256:${SHA}`, artifact("ollama", undefined, "library/llama3", `sha256:${SHA}`)],
		["oci://Reg.example:5000/a/b/c:v1", artifact("oci", "reg.example:5000", "a/b/c", "v1")],
		[`oci://[::1]:5000/a:v1@sha256:${SHA}`, artifact("oci", "[::1]:5000", "a", `sha256:${SHA}`)],
		["s3://bucket/a/b", { kind: "bucket", scheme: "s3", bucket: "bucket", key: "a/b", isFolder: false }],
		[
			"gs://my.bucket/a/b//",
			{ kind: "bucket", scheme: "gs", bucket: "my.bucket", key: "a/b", isFolder: true },
		],
		["S3://bucket", { kind: "bucket", scheme: "s3", bucket: "bucket", key: "", isFolder: true }],
		["file:///models/tiny", { kind: "file", path: "/models/tiny" }],
		["file:///models/a%20b/", { kind: "file", path: "/models/a b" }],
		["file:///", { kind: "file", path: "/" }],
	])("%s", (text, uri) => {
		expect(parseSourceUri(text, { hubOrigins: ["http://127.0.0.1:4777"] })).toEqual(uri as never);
	});

	test.each([
		["data:text/plain,x", "scheme_not_allowed"],
		["ftp://host/x", "scheme_not_allowed"],
		["gopher://host/", "scheme_not_allowed"],
		["unix:/run/x.sock", "scheme_not_allowed"],
		["blob:https://x/1", "scheme_not_allowed"],
		["llama3:8b", "scheme_not_allowed"],
		["ollama:", "bad_source"],
		["ollama:../x", "bad_source"],
		["ollama:a..b", "bad_source"],
		["ollama:a/b/c", "bad_source"],
		["ollama:llama3:", "bad_source"],
		["ollama:llama3@sha256:00", "bad_source"],
		["ollama:llama3:a..b", "bad_source"],
		["oci:name:tag", "bad_source"],
		["oci://reg.example", "bad_source"],
		["oci://reg.example/a/../b", "bad_source"],
		["oci://reg.example/a?x=1", "bad_source"],
		["oci://reg.example/a#x", "bad_source"],
		["oci://user:pw@reg.example/a", "credentials_in_url"],
		["oci://pw@reg.example/a:tag", "credentials_in_url"],
		["s3:bucket/key", "bad_source"],
		["s3:///key", "bad_source"],
		["s3://B/key", "bad_source"],
		["s3://a..b/key", "bad_source"],
		["s3://10.0.0.1/key", "bad_source"],
		["s3://bucket:9000/key", "bad_source"],
		["s3://bucket/a/../b", "bad_source"],
		["s3://bucket/..", "bad_source"],
		["s3://bucket/key?versionId=1", "bad_source"],
		["s3://key:secret@bucket/key", "credentials_in_url"],
		["llama", "bad_source"],
		["", "bad_source"],
		["../../etc/passwd", "bad_source"],
		["/etc/passwd", "bad_source"],
		["./model", "bad_source"],
		["a/b/c", "bad_source"],
		["hf:", "bad_source"],
		["hf:../x", "bad_source"],
		["hf:a..b/c", "bad_source"],
		["hf:acme/tiny@", "bad_source"],
		["hf:acme/tiny@../x", "bad_source"],
		["hf:acme/tiny@a..b", "bad_source"],
		["hf:acme/tiny:", "bad_source"],
		["hf:acme/ti ny", "bad_source"],
		["hf:acme/tiny\n", "bad_source"],
		["x/y".padEnd(5000, "z"), "bad_source"],
		["https://huggingface.co/", "bad_source"],
		["https://huggingface.co/datasets/acme/x", "bad_source"],
		["https://huggingface.co/acme/tiny/tree/main/folder", "bad_source"],
		["https://huggingface.co/acme/tiny/discussions/1", "bad_source"],
		["https://huggingface.co/acme/%E0%A4%A", "bad_source"],
		["https://huggingface.co/acme/..%2f..%2fx", "bad_source"],
		["https://user:canary@files.example/x", "credentials_in_url"],
		["https://", "bad_url"],
		["https://files.example/x#sha256=12", "bad_digest"],
		["file://host/x", "bad_source"],
		["file:x", "bad_source"],
		["file:///a%00b", "bad_source"],
		["file:///models/..%2f..%2fetc/passwd", "bad_source"],
		["file:///x?y", "bad_source"],
	])("%j is 400 %s", (text, reason) => {
		expect(() => parseSourceUri(text)).toThrow(expect.objectContaining({ status: 400, reason }));
	});

	test("a refused URL is shown without its query, where secrets travel", () => {
		try {
			parseSourceUri("https://huggingface.co/datasets/x?token=canary");
			throw new Error("was accepted");
		} catch (error) {
			expect(String(error)).not.toContain("canary");
		}
	});

	test("any text is a source or a 400, never something else", () => {
		const pieces = fc.array(
			fc.constantFrom(
				"hf:",
				"https://",
				"file:///",
				"huggingface.co",
				"/",
				"a",
				"..",
				"@",
				":",
				"%2f",
				"#",
				"?",
				"é",
				"Q4",
			),
		);
		fc.assert(
			fc.property(
				fc.oneof(
					fc.string(),
					pieces.map((all) => all.join("")),
				),
				(text) => {
					try {
						const uri = parseSourceUri(text);
						// What is written down is read as the same again; an http URL loses its query on purpose.
						if (uri.kind === "hub")
							expect(parseSourceUri(formatSourceUri(uri))).toMatchObject({ repository: uri.repository });
						if (uri.kind === "file") expect(parseSourceUri(formatSourceUri(uri))).toEqual(uri);
					} catch (error) {
						if (!(error instanceof GswarmError)) throw error;
						expect(error.status).toBe(400);
					}
				},
			),
			{ numRuns: 500 },
		);
	});
});

test("a source is written as people type it, pinned and without secrets", () => {
	const written = (text: string, commit?: string) => formatSourceUri(parseSourceUri(text), commit);
	expect(written("acme/tiny@main", "c0ffee")).toBe("hf:acme/tiny@c0ffee");
	expect(written("acme/tiny:Q4_K_M", "c0ffee")).toBe("hf:acme/tiny@c0ffee:Q4_K_M");
	expect(written("https://hf.co/acme/tiny/blob/main/a b.txt".replace(" ", "%20"), "c0ffee")).toBe(
		"https://huggingface.co/acme/tiny/resolve/c0ffee/a%20b.txt",
	);
	expect(written(`https://files.example/x.gguf?sig=canary#sha256=${SHA}`)).toBe(
		`https://files.example/x.gguf#sha256=${SHA}`,
	);
	expect(written("file:///models/a%20b")).toBe("file:///models/a%20b");
});

test.each([
	["acme/tiny:Q4_K_M", "acme/tiny"],
	["https://files.example/m/tiny-Q4.gguf", "tiny-Q4"],
	["https://files.example/tiny.tar.gz", "tiny"],
	["https://files.example/Llama-3.1-8B.tgz", "Llama-3.1-8B"],
	["https://files.example/a%20b%2fc.bin", "a-b-c"],
	["https://files.example/.gguf", "model"],
	["https://files.example/", "model"],
	["file:///models/my%20model", "my-model"],
	["file:///models/Llama-3.1", "Llama-3.1"],
])("the suggested name of %s is %s", (text, name) => {
	expect(suggestedName(parseSourceUri(text)) as string).toBe(name);
});

test("archives are known by their names", () => {
	expect(["a.tar", "a.tar.gz", "A.TGZ", "a.gguf", "tar"].map(archiveKind)).toEqual([
		"tar",
		"tar.gz",
		"tar.gz",
		undefined,
		undefined,
	]);
});
