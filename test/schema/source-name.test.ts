import { expect, test } from "bun:test";
import { parseSourceUri, suggestedName } from "../../src/core/source/source-uri.ts";
import { hubSourceOf, parseNamedSource } from "../../src/schema/source-name.ts";

const SOURCES: readonly (readonly [string, string])[] = [
	["hf:acme/tiny", "acme/tiny"],
	["hf://acme/tiny", "acme/tiny"],
	["hf:acme/tiny@v1.0", "acme/tiny"],
	["hf:acme/tiny@main:Q4_K_M", "acme/tiny"],
	["acme/tiny:Q4_K_M", "acme/tiny"],
	["acme/tiny@0123456789abcdef", "acme/tiny"],
	["https://huggingface.co/acme/tiny", "acme/tiny"],
	["https://huggingface.co/acme/tiny/tree/main", "acme/tiny"],
	["https://example.org/models/Tiny-Q4.gguf", "Tiny-Q4"],
	["https://example.org/models/Tiny-Q4.gguf?download=true#x", "Tiny-Q4"],
	["https://example.org/a%20b.tar.gz", "a-b"],
	["https://example.org/", "model"],
	["file:///srv/models/tiny.gguf", "tiny"],
	["file:///srv/models/tiny/", "tiny"],
	["ollama:llama3:8b", "llama3-8b"],
	["ollama:llama3", "llama3"],
	["ollama:ann/tiny:latest", "tiny-latest"],
	["oci://registry.test/team/tiny:v2", "tiny-v2"],
	["oci://registry.test:5000/team/tiny", "tiny"],
	["s3://bucket/models/tiny", "tiny"],
	["s3://bucket/models/tiny/", "tiny"],
	["s3://bucket", "model"],
	["gs://bucket/Tiny-Q4.gguf", "Tiny-Q4"],
];
for (const [source, name] of SOURCES) {
	test(`${source} suggests ${name} and stays the source as it was typed`, () => {
		expect(parseNamedSource(source)).toEqual({ modelName: name as never, sourceUrl: source });
	});
}

test("the name is the one that the source itself would suggest", () => {
	for (const [source, name] of SOURCES) {
		if (source.endsWith("#x")) continue;
		expect([source, suggestedName(parseSourceUri(source))]).toEqual([source, name as never]);
	}
});

test("a plain name has no source", () => {
	for (const name of ["tiny", "acme/tiny", "a/b/c", "llama-7b.v2"]) {
		expect(parseNamedSource(name)).toEqual({ modelName: name as never, sourceUrl: undefined });
	}
});

test("what is neither is refused with examples", () => {
	for (const text of [
		"",
		" ",
		"../x",
		"a b",
		"--host=0.0.0.0",
		"tiny:Q4",
		"hf:",
		"hf:../..",
		"x:y",
		"a/b/c/d",
		"\u001b[2J",
	]) {
		expect(() => parseNamedSource(text)).toThrow(/neither a model name nor a source/);
	}
});

test("a name of two segments names a hub repository too", () => {
	const hub = (text: string) => hubSourceOf(parseNamedSource(text).modelName);
	expect([hub("acme/tiny"), hub("tiny"), hub("a/b/c")]).toEqual(["hf:acme/tiny", undefined, undefined]);
});
