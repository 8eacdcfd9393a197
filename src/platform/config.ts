/**
 * Configuration: the only place that reads the environment and `config.yaml`. Nothing is read from the working
 * directory. Unknown keys and wrong types are refused with the path of the key.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { parseSize } from "../schema/byte-size.ts";
import { GswarmError } from "../schema/errors.ts";
import { parseAddressRange } from "./address-range.ts";
import { isAddress } from "./address.ts";
import { MAX_YAML_BYTES } from "./limits.ts";
import { parseYaml } from "./safe-yaml.ts";

const port = z.number().int().min(1).max(65535);
const bytes = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);
const sizeOrBytes = z.union([
	bytes,
	z.string().transform((text, context) => {
		const size = parseSize(text);
		if (size !== undefined && size > 0) return size;
		context.addIssue({ code: "custom", message: "wanted a size such as 8GB" });
		return z.NEVER;
	}),
]);
/** Bytes per second. */
const rate = z.number().int().min(1000).max(Number.MAX_SAFE_INTEGER);
/** Without a name and password: this file holds no secrets. */
const origin = z
	.string()
	.regex(/^https?:\/\/[^/\s@?#\\]+$/, "wanted an origin such as http://mirror.local:8080");
const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;
/** How others reach this machine; it gets into the certificate and the list of allowed Hosts. */
const reachableName = z
	.string()
	.max(253)
	.refine(
		(text) => isAddress(text) || (HOST_NAME.test(text) && !/(^|\.)\d+$/.test(text)),
		"wanted a host name or an address, without a port",
	);
const addressRange = z
	.string()
	.refine((text) => parseAddressRange(text) !== undefined, "wanted an address or a range such as 10.0.0.0/24")
	// Everybody would be a proxy then, and could say to be anybody.
	.refine(
		(text) => parseAddressRange(text)?.bits !== 0,
		"that is every address; wanted those of the proxies",
	);

/** How full a tier may be, and how far it is emptied then; shares of what models may take there. */
const eviction = (automatic: boolean) =>
	z
		.strictObject({
			/** Copies go by themselves where room is needed; off: only by `gswarm model evict`. */
			automatic: z.boolean().default(automatic),
			high: z.number().gt(0).max(1).default(0.95),
			low: z.number().gt(0).max(1).default(0.85),
		})
		.refine(({ high, low }) => low <= high, "`low` is above `high`")
		.prefault({});

/** Where the buckets of a scheme are and as whom they are read; keys stand in a profile of ~/.aws, never here. */
const bucketService = z.strictObject({
	endpoint: origin.optional(),
	region: z
		.string()
		.regex(/^[a-z0-9-]{1,40}$/, "wanted a region such as eu-central-1")
		.optional(),
	profile: z.string().min(1).max(64).optional(),
	/** Without credentials, for public buckets. */
	anonymous: z.boolean().default(false),
	/** `https://endpoint/bucket/key` in the place of `https://bucket.endpoint/key`. */
	path_style: z.boolean().optional(),
});
export type BucketConfig = z.infer<typeof bucketService>;

/** `config.yaml` of the data directory: the design's `cluster` and `nodes`, and additions. */
const configSchema = z.strictObject({
	cluster: z
		.strictObject({
			host: z.string().min(1).optional(),
			port: port.optional(),
			/** Names and addresses under which others reach this machine; the first stands in printed URLs. */
			advertise: z.array(reachableName).max(16).default([]),
			/** Proxies in front of this agent: only their X-Forwarded-… headers count. */
			trusted_proxies: z.array(addressRange).max(64).default([]),
			/** Parts of files go between nodes over plain HTTP, with sha256 checked. */
			trusted_network: z.boolean().default(false),
			/** A node that joins waits until an admin approves it. */
			approve_joins: z.boolean().default(false),
		})
		.prefault({}),
	nodes: z
		.array(
			z.strictObject({
				name: z.string().min(1),
				address: z.string().min(1),
				capabilities: z
					.strictObject({
						gpus: z.array(z.string()).default([]),
						storage: z.strictObject({ disk: bytes.optional(), dram: bytes.optional() }).default({}),
					})
					.optional(),
			}),
		)
		.default([]),
	/** Folders that `file:///…` sources may lie in. */
	import_folders: z.array(z.string().refine((p) => isAbsolute(p), "wanted an absolute path")).default([]),
	sources: z
		.strictObject({
			/** Origins that are allowed although their address is private or loopback. */
			allow: z.array(origin).default([]),
			/** Allow every private address (10/8, 192.168/16 …), never loopback or metadata. */
			allow_private: z.boolean().default(false),
			/** Where `ollama:` models are, in the place of https://registry.ollama.ai. */
			ollama: origin.optional(),
			/** Origins that may give tokens for registries elsewhere. */
			token_realms: z.array(origin).max(16).optional(),
			s3: bucketService.optional(),
			gs: bucketService.optional(),
		})
		.default({ allow: [], allow_private: false }),
	queue: z
		.strictObject({ max_concurrent_tasks: z.number().int().min(1).max(64).default(4) })
		.default({ max_concurrent_tasks: 4 }),
	transfer: z
		.strictObject({
			/** `parts`: digests of parts are enough where the line is safe; `sha256`: that of whole files always. */
			verify: z.enum(["parts", "sha256"]).default("parts"),
			/** Bytes per second that this node may receive and send. */
			down: rate.optional(),
			up: rate.optional(),
			/** Of all nodes together; the host's counts. */
			cluster_down: rate.optional(),
			cluster_up: rate.optional(),
			/** `auto`: parts over plain HTTP are received by a process of their own where that works; `portable`: never. */
			plane: z.enum(["auto", "portable"]).default("auto"),
		})
		.prefault({}),
	accelerator: z
		.strictObject({
			/** `auto`: the machine's GPUs; `sim`: simulated ones in their place; `none`: no GPU is looked for. */
			driver: z.enum(["auto", "sim", "none"]).default("auto"),
			/** Of each simulated GPU: bytes, or a size such as 8GB. */
			memory: sizeOrBytes.optional(),
			/** How many are simulated; left out: as many as `nodes` names for this machine, at least one. */
			count: z.number().int().min(1).max(16).optional(),
		})
		.refine((it) => (it.driver === "sim") === (it.memory !== undefined), {
			path: ["memory"],
			message: "goes with `driver: sim`, which needs it",
		})
		.prefault({}),
	/** What is brought into memory ahead of its use. */
	preload: z
		.strictObject({
			/** `auto`: by hints, and by the record of uses once there is enough; `hints`: by hints alone; `off`. */
			mode: z.enum(["auto", "hints", "off"]).default("auto"),
			/** Share of the memory's tier that copies may take which nobody has used yet. */
			share: z.number().gt(0).max(1).default(0.5),
		})
		.prefault({}),
	storage: z
		.strictObject({
			/** Bytes of a filesystem that are never used; default max(1 GiB, 2 %). */
			free_space_floor: z.number().int().nonnegative().optional(),
			eviction: z.strictObject({ dram: eviction(true), disk: eviction(false) }).prefault({}),
		})
		.prefault({}),
});
export type Config = z.infer<typeof configSchema>;

/** What the agent takes from its environment; the CLI has its own few variables. */
export interface AgentEnvironment {
	hubEndpoint: string;
	hubToken: string | undefined;
	aws: AwsEnvironment;
}

/** As the tools of AWS read it. */
export interface AwsEnvironment {
	accessKeyId: string | undefined;
	secretAccessKey: string | undefined;
	sessionToken: string | undefined;
	region: string | undefined;
	endpoint: string | undefined;
	profile: string;
	/** Texts of their two files, empty where there is none. */
	files: { credentials: string; config: string };
}

/** @throws INVALID_REQUEST bad_config naming the key */
export function loadConfig(dataDir: string): Config {
	const path = join(dataDir, "config.yaml");
	if (!existsSync(path)) return configSchema.parse({});
	const result = configSchema.safeParse(readYaml(path));
	if (result.success) return result.data;
	const [issue] = result.error.issues;
	const extra = issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
	const key = [...(issue?.path ?? []), ...extra].join(".");
	const problem = extra.length > 0 ? "unknown key" : (issue?.message ?? "wrong");
	throw badConfig(path, key === "" ? problem : `${key}: ${problem}`);
}

/** The agent's own environment, of which its children get a few variables. */
export function readProcessEnvironment(): Readonly<Record<string, string | undefined>> {
	return process.env;
}

/** HF_ENDPOINT, HF_TOKEN and HF_TOKEN_PATH, as the hub's own tools read them. */
export function readAgentEnvironment(
	env: Record<string, string | undefined> = process.env,
): AgentEnvironment {
	const endpoint = (env["HF_ENDPOINT"] ?? "https://huggingface.co").replace(/\/+$/, "");
	let token = env["HF_TOKEN"];
	const tokenPath =
		env["HF_TOKEN_PATH"] ?? join(env["HF_HOME"] ?? join(homedir(), ".cache", "huggingface"), "token");
	if (token === undefined && existsSync(tokenPath)) token = readFileSync(tokenPath, "utf8").trim();
	return { hubEndpoint: endpoint, hubToken: token === "" ? undefined : token, aws: readAws(env) };
}

function readAws(env: Record<string, string | undefined>): AwsEnvironment {
	const set = (...names: string[]): string | undefined =>
		names.map((name) => env[name]).find((value) => value !== undefined && value !== "");
	const folder = join(env["HOME"] ?? homedir(), ".aws");
	return {
		accessKeyId: set("AWS_ACCESS_KEY_ID"),
		secretAccessKey: set("AWS_SECRET_ACCESS_KEY"),
		sessionToken: set("AWS_SESSION_TOKEN"),
		region: set("AWS_REGION", "AWS_DEFAULT_REGION"),
		endpoint: set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
		profile: set("AWS_PROFILE") ?? "default",
		files: {
			credentials: textOf(set("AWS_SHARED_CREDENTIALS_FILE") ?? join(folder, "credentials")),
			config: textOf(set("AWS_CONFIG_FILE") ?? join(folder, "config")),
		},
	};
}

/** A small file of this user; nothing where it cannot be read. */
function textOf(path: string): string {
	try {
		const text = readFileSync(path);
		return text.byteLength > MAX_YAML_BYTES ? "" : text.toString("utf8");
	} catch {
		return "";
	}
}

/** One YAML document without aliases, `{}` for an empty one. Whoever may write the file may do what the agent may. */
function readYaml(path: string): unknown {
	let file: number;
	try {
		// A pipe in place of the file would otherwise be waited for.
		file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	} catch (cause) {
		throw unreadable(path, cause);
	}
	try {
		const stat = fstatSync(file);
		if (!stat.isFile()) throw badConfig(path, "it cannot be read (it is no file)");
		const own = process.getuid?.() ?? stat.uid;
		if (stat.uid !== own && stat.uid !== 0)
			throw badConfig(
				path,
				"it belongs to another user",
				`\`chown\` it to the agent's user, after a look at it.`,
			);
		if ((stat.mode & 0o022) !== 0)
			throw badConfig(path, "other users may write to it", `\`chmod 600 ${path}\`, after a look at it.`);
		if (stat.size > MAX_YAML_BYTES) throw badConfig(path, "it is larger than 1 MiB");
		return parseYaml(readFileSync(file), { maxAliases: 0 }) ?? {};
	} catch (cause) {
		if (!(cause instanceof GswarmError)) throw unreadable(path, cause);
		if (cause.reason !== "bad_yaml") throw cause;
		throw badConfig(path, String(cause.details["problem"]));
	} finally {
		closeSync(file);
	}
}

function unreadable(path: string, cause: unknown): GswarmError {
	return badConfig(path, `it cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
}

function badConfig(
	path: string,
	problem: string,
	hint = "Correct the file and start the agent again; nothing was changed.",
): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${path}: ${problem}.`, { reason: "bad_config", hint });
}
