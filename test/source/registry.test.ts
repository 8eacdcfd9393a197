import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openSource, type Source, type SourceContext } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import {
	type LoopbackRegistry,
	ollamaArtifact,
	type RegistryOptions,
	startRegistry,
} from "../support/loopback-registry.ts";

const MODEL = Buffer.from("GGUF".repeat(5000));
const SHA256 = new Bun.CryptoHasher("sha256").update(MODEL).digest("hex");
let running: LoopbackRegistry[] = [];

function start(options: RegistryOptions = {}): LoopbackRegistry {
	const registry = startRegistry(options);
	running.push(registry);
	return registry;
}
beforeEach(() => {
	running = [];
});
afterEach(() => {
	for (const registry of running) registry.stop();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
function open(
	uri: string,
	registry: LoopbackRegistry,
	more: Partial<SourceContext> = {},
	allow: string[] = [],
): Source {
	return openSource(uri, {
		outbound: createOutbound(
			{ clock: systemClock, log: silentLog },
			{ allow: [registry.url, registry.cdnUrl, ...allow] },
		),
		clock: systemClock,
		registries: { ollama: registry.url },
		...more,
	});
}
const failure = (work: Promise<unknown> | (() => unknown)): Promise<Record<string, unknown>> =>
	Promise.try(() => (typeof work === "function" ? work() : work)).then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
async function readAll(
	source: Source,
	path: string,
	range?: { start: number; end: number },
): Promise<string> {
	const { files } = await source.describe(signal());
	const file = files.find((each) => each.path === path);
	if (file === undefined) throw new Error(`there is no ${path} among ${files.map((f) => f.path).join()}`);
	return await new Response(await source.read(file, range, signal())).text();
}
const title = (name: string, content = name) => ({
	mediaType: "application/octet-stream",
	content,
	title: name,
});

describe("a model of Ollama's registry", () => {
	test("is its layers as files, pinned by the manifest's digest, each with its sha256", async () => {
		const registry = start();
		const digest = registry.push("library/llama3", "8b", ollamaArtifact(MODEL));
		const source = open("ollama:llama3:8b", registry);
		const found = await source.describe(signal());
		expect(found).toMatchObject({
			uri: `ollama:llama3@${digest}`,
			revision: digest.replace(":", "-"),
			suggestedName: "llama3-8b",
			archive: undefined,
		});
		expect(found.files.map(({ path }) => path as string)).toEqual([
			"LICENSE",
			"LICENSE-2",
			"llama3.gguf",
			"ollama-config.json",
			"params.json",
			"template",
		]);
		expect(found.files.find(({ path }) => path.endsWith(".gguf"))).toMatchObject({
			sizeBytes: MODEL.length,
			digest: { algorithm: "sha256", hex: SHA256 },
			rangeable: true,
		});
		expect(await readAll(source, "llama3.gguf", { start: 3, end: 9 })).toBe("FGGUFG");
		expect(await readAll(source, "LICENSE-2")).toBe("Acceptable use\n");
	});

	test("named by its digest is the same model with the same files", async () => {
		const registry = start();
		const digest = registry.push("library/llama3", "8b", ollamaArtifact(MODEL));
		const byTag = await open("ollama:llama3:8b", registry).describe(signal());
		const pinned = await open(byTag.uri, registry).describe(signal());
		expect(pinned.sourceId).toBe(byTag.sourceId);
		expect(pinned.uri).toBe(`ollama:llama3@${digest}`);
	});

	test("has latest as its tag and library as its namespace unless told", async () => {
		const registry = start();
		registry.push("library/tiny", "latest", ollamaArtifact("a"));
		registry.push("ann/tiny", "latest", ollamaArtifact("b"));
		expect(await readAll(open("ollama:tiny", registry), "tiny.gguf")).toBe("a");
		expect(await readAll(open("ollama:ann/tiny", registry), "tiny.gguf")).toBe("b");
	});

	test("with a projector has it beside the model under a name that engines know", async () => {
		const registry = start();
		const projector = { mediaType: "application/vnd.ollama.image.projector", content: "p" };
		registry.push("library/llava", "7b", ollamaArtifact(MODEL, [projector]));
		expect(await readAll(open("ollama:llava:7b", registry), "mmproj-llava.gguf")).toBe("p");
	});
});

describe("an artifact of a registry", () => {
	test("has the files that its layers' titles name, and its configuration", async () => {
		const registry = start();
		registry.push("team/tiny", "v2", {
			config: { mediaType: "application/vnd.cncf.model.config.v1+json", content: '{"a":1}' },
			layers: [title("config.json", "{}"), title("weights/model.safetensors", "weights")],
		});
		const source = open(`oci://${registry.host}/team/tiny:v2`, registry);
		expect(await readAll(source, "weights/model.safetensors")).toBe("weights");
		expect(await source.describe(signal())).toMatchObject({ suggestedName: "tiny-v2", totalBytes: 16 });
	});

	test("of Docker's model runner has its GGUF file named after it", async () => {
		const registry = start();
		const layers = [{ mediaType: "application/vnd.docker.ai.gguf.v3", content: "weights" }];
		registry.push("ai/smollm2", "latest", { layers });
		expect(await readAll(open(`oci://${registry.host}/ai/smollm2`, registry), "smollm2.gguf")).toBe(
			"weights",
		);
	});

	test("behind a list of one manifest is that one; of several platforms it is refused", async () => {
		const registry = start();
		const digest = registry.push("team/tiny", "v1", { layers: [title("a.txt")] });
		const entry = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest, size: 10 };
		const index = "application/vnd.oci.image.index.v1+json";
		registry.pushManifest("team/tiny", "one", { schemaVersion: 2, manifests: [entry] }, index);
		registry.pushManifest("team/tiny", "two", { schemaVersion: 2, manifests: [entry, entry] }, index);
		registry.pushManifest("team/tiny", "none", { schemaVersion: 2, manifests: [] }, index);
		const at = (tag: string) => open(`oci://${registry.host}/team/tiny:${tag}`, registry);
		expect((await at("one").describe(signal())).revision as string).toBe(digest.replace(":", "-"));
		expect(await failure(at("two").describe(signal()))).toMatchObject({ reason: "several_platforms" });
		expect(await failure(at("none").describe(signal()))).toMatchObject({ reason: "several_platforms" });
	});

	test.each<[string, object]>([
		["a container image", { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", content: "x" }],
		["a layer of an unknown type without a title", { mediaType: "application/x", content: "x" }],
		["a packed folder", { ...title("folder"), annotations: { "io.deis.oras.content.unpack": "true" } }],
		["Ollama's single tensors", { mediaType: "application/vnd.ollama.image.tensor", content: "x" }],
	])("that is %s is refused", async (_what, layer) => {
		const registry = start();
		registry.push("team/image", "v1", { layers: [layer as never] });
		const refused = failure(open(`oci://${registry.host}/team/image:v1`, registry).describe(signal()));
		expect(await refused).toMatchObject({ code: "TASK_FAILED", reason: "unsupported_layer" });
	});

	test.each(["../x", "/etc/passwd", "a\\b", "C:\\x", "a/../../b", ".gswarm-manifest.json", "con", ""])(
		"with a layer titled %p is refused, nothing of it is read",
		async (name) => {
			const registry = start();
			registry.push("team/tiny", "v1", { layers: [title("ok.txt"), title(name, "x")] });
			const refused = failure(open(`oci://${registry.host}/team/tiny:v1`, registry).describe(signal()));
			expect(await refused).toMatchObject({ code: "INVALID_REQUEST", reason: "unsafe_filename" });
		},
	);

	test("with the same title twice is refused", async () => {
		const registry = start();
		registry.push("team/tiny", "v1", { layers: [title("a.txt", "1"), title("A.txt", "2")] });
		const refused = failure(open(`oci://${registry.host}/team/tiny:v1`, registry).describe(signal()));
		expect(await refused).toMatchObject({ reason: "unsafe_filename" });
	});

	test.each([
		["sha512:00", 1],
		["sha256:../../x", 1],
		["", 1],
	])("with the digest %p for a layer is refused", async (digest, size) => {
		const registry = start();
		registry.push("team/tiny", "v1", { layers: [{ ...title("a.txt"), digest, size }] });
		const refused = failure(open(`oci://${registry.host}/team/tiny:v1`, registry).describe(signal()));
		expect(await refused).toMatchObject({ code: "NETWORK_ERROR", reason: "bad_answer" });
	});

	test("whose manifest is not what its digest says is refused, by tag and by digest", async () => {
		const registry = start();
		const digest = registry.push("team/tiny", "v1", { layers: [title("a.txt")] });
		registry.set({ changeManifest: true });
		const at = (end: string) =>
			failure(open(`oci://${registry.host}/team/tiny${end}`, registry).describe(signal()));
		expect(await at(":v1")).toMatchObject({ code: "NETWORK_ERROR", reason: "wrong_digest" });
		registry.set({ hideDigest: true });
		expect(await at(`@${digest}`)).toMatchObject({ reason: "wrong_digest" });
	});

	test("with a manifest that does not end is refused within limits", async () => {
		const registry = start();
		const many = { schemaVersion: 2, layers: [], padding: "x".repeat(5_000_000) };
		registry.pushManifest("team/tiny", "v1", many, "application/json");
		const refused = failure(open(`oci://${registry.host}/team/tiny:v1`, registry).describe(signal()));
		expect(await refused).toMatchObject({ reason: "bad_answer", message: expect.stringContaining("larger") });
	});

	test("that is not there is told as such, with what may help", async () => {
		const registry = start();
		const refused = await failure(open(`oci://${registry.host}/team/none:v1`, registry).describe(signal()));
		expect(refused).toMatchObject({ code: "TASK_FAILED", reason: "not_found" });
	});
});

describe("a token", () => {
	const pushed = (options: RegistryOptions): LoopbackRegistry => {
		const registry = start(options);
		registry.push("team/tiny", "v1", { layers: [title("a.txt", "content")] });
		return registry;
	};
	const uri = ({ host }: LoopbackRegistry) => `oci://${host}/team/tiny:v1`;

	test("is fetched once where one is wanted, and goes to the registry alone", async () => {
		const registry = pushed({ auth: true, redirect: true });
		expect(await readAll(open(uri(registry), registry), "a.txt")).toBe("content");
		const log = registry.log();
		expect(log.filter(({ target }) => target.startsWith("/token")).length).toBe(1);
		expect(log.some(({ authorization }) => authorization?.startsWith("Bearer token-") === true)).toBe(true);
		const elsewhere = log.filter(({ server }) => server === "cdn");
		expect(elsewhere.map(({ authorization, status }) => [authorization, status])).toEqual([[undefined, 206]]);
	});

	test("that ends is fetched anew, for many ranges at once by one request", async () => {
		const registry = pushed({ auth: true });
		const source = open(uri(registry), registry);
		const { files } = await source.describe(signal());
		registry.endTokens();
		registry.clearLog();
		const [file] = files;
		if (file === undefined) throw new Error("no file");
		const read = async (at: number) =>
			await new Response(await source.read(file, { start: at, end: at + 1 }, signal())).text();
		expect((await Promise.all([0, 1, 2, 3, 4].map(read))).join("")).toBe("conte");
		expect(registry.log().filter(({ target }) => target.startsWith("/token")).length).toBe(1);
	});

	test("of a realm on another origin is not asked for, and the refusal says where it led", async () => {
		const registry = pushed({ auth: true });
		const other = start({ auth: true });
		registry.set({ realm: `${other.url}/token` });
		const source = open(uri(registry), registry, {}, [other.url]);
		expect(await failure(source.describe(signal()))).toMatchObject({
			code: "TASK_FAILED",
			reason: "auth",
			details: { ignored_realm: other.url },
		});
		expect(other.log()).toEqual([]);
	});

	test("of a realm that is listed is asked for there", async () => {
		const registry = pushed({ auth: true });
		const other = start({ auth: true });
		registry.set({ realm: `${other.url}/token` });
		const registries = { tokenRealms: [other.url] };
		await failure(open(uri(registry), registry, { registries }, [other.url]).describe(signal()));
		expect(other.log().map(({ target }) => target)).toEqual([
			"/token?service=loopback&scope=repository%3Ateam%2Ftiny%3Apull",
		]);
	});

	test.each(["http://169.254.169.254/token", "http://127.0.0.1:1/token"])(
		"of a realm at %s is not asked for even when it is listed",
		async (realm) => {
			const registry = pushed({ auth: true });
			registry.set({ realm });
			const registries = { tokenRealms: [new URL(realm).origin] };
			const refused = await failure(open(uri(registry), registry, { registries }).describe(signal()));
			expect(refused).toMatchObject({ code: "FORBIDDEN", reason: "address_blocked" });
		},
	);

	test("is given for a stored login, which goes to the realm's origin and nowhere else", async () => {
		const registry = pushed({ auth: { login: "ann:canary-4711" }, redirect: true });
		const asked: string[] = [];
		const credentials = (origin: string) => {
			asked.push(origin);
			return Promise.resolve(origin === registry.url ? "ann:canary-4711" : undefined);
		};
		expect(await readAll(open(uri(registry), registry, { credentials }), "a.txt")).toBe("content");
		expect(asked).toEqual([registry.url]);
		const logins = registry.log().filter(({ authorization }) => authorization?.startsWith("Basic") === true);
		expect(logins.map(({ target }) => target.split("?")[0])).toEqual(["/token"]);
		const without = await failure(open(uri(registry), registry).describe(signal()));
		expect(without).toMatchObject({ reason: "auth" });
	});
});

test("a registry on this machine is refused unless the configuration lists it, before anything is asked", async () => {
	const registry = start();
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [] });
	const refused = await failure(() =>
		openSource(`oci://${registry.host}/a/b`, { outbound, clock: systemClock }),
	);
	expect(refused).toMatchObject({ code: "FORBIDDEN", reason: "address_blocked" });
	expect(registry.log()).toEqual([]);
});
