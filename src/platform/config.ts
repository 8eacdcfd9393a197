/**
 * Configuration: the only place that reads the environment and `config.yaml`. Nothing is read from the working
 * directory. Unknown keys and wrong types are refused with the path of the key.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { GswarmError } from "../schema/errors.ts";

const MAX_CONFIG_BYTES = 1024 * 1024;

const port = z.number().int().min(1).max(65535);
const bytes = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);
const origin = z.string().regex(/^https?:\/\/[^/\s]+$/, "wanted an origin such as http://mirror.local:8080");

/** `config.yaml` of the data directory: the design's `cluster` and `nodes`, and additions. */
const configSchema = z.strictObject({
	cluster: z.strictObject({ host: z.string().min(1).optional(), port: port.optional() }).default({}),
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
		})
		.default({ allow: [], allow_private: false }),
	queue: z
		.strictObject({ max_concurrent_tasks: z.number().int().min(1).max(64).default(4) })
		.default({ max_concurrent_tasks: 4 }),
	storage: z
		.strictObject({
			/** Bytes of a filesystem that are never used; default max(1 GiB, 2 %). */
			free_space_floor: z.number().int().nonnegative().optional(),
		})
		.default({}),
});
export type Config = z.infer<typeof configSchema>;

/** What the agent takes from its environment; the CLI has its own few variables. */
export interface AgentEnvironment {
	hubEndpoint: string;
	hubToken: string | undefined;
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
	return { hubEndpoint: endpoint, hubToken: token === "" ? undefined : token };
}

/** One YAML document without aliases, `{}` for an empty one. */
function readYaml(path: string): unknown {
	let text: string;
	try {
		if (statSync(path).size > MAX_CONFIG_BYTES) throw badConfig(path, "it is larger than 1 MiB");
		text = readFileSync(path, "utf8");
	} catch (cause) {
		if (cause instanceof GswarmError) throw cause;
		throw badConfig(path, `it cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
	}
	const document = parseDocument(text, { uniqueKeys: true });
	const [problem] = document.errors;
	if (problem !== undefined) throw badConfig(path, problem.message.split("\n")[0]?.replace(/:$/, "") ?? "");
	try {
		return document.toJS({ maxAliasCount: 0 }) ?? {};
	} catch {
		throw badConfig(path, "it has an alias (*name); write the value where it is used");
	}
}

function badConfig(path: string, problem: string): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${path}: ${problem}.`, {
		reason: "bad_config",
		hint: "Correct the file and start the agent again; nothing was changed.",
	});
}
