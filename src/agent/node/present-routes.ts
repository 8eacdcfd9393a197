/** The node's routes for showing copies in the layout of Hugging Face's cache. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { insideImportFolder } from "../../core/source/source.ts";
import { invalid, modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { isModelName, parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";
import { onlyTier } from "./only-tier.ts";
import { ofRevision, requireCopy } from "./named-copy.ts";

export function presentRoutes(
	d: NodeRouteDependencies,
	{ tierHere }: NodeRequests,
): Pick<Handlers<"node">, "presentModel" | "withdrawModel"> {
	const copyOf = (name: string, device: string | undefined, revision: string | undefined): ModelCopy => {
		const model = parseModelName(name);
		const tiers = [...new Set(d.storage.copies({ model }).map((copy) => copy.tier))];
		const tier = device === undefined ? onlyTier(tiers, model, d.nodeName) : tierHere(device);
		return requireCopy(d.storage, model, tier, d.nodeName, revision);
	};
	const deviceOf = ({ tier }: ModelCopy): string => `${d.nodeName}:${tier}`;
	return {
		async presentModel({ params, body }) {
			const copy = copyOf(params.model_name, body.device, body.revision);
			const { importDirectories = [] } = d.sources;
			const cacheDir =
				body.cache_dir === undefined
					? join(d.dataDir, "hf-cache")
					: privateDirectory(await insideImportFolder(body.cache_dir, importDirectories));
			const repository = repositoryOf(copy, body.repository);
			const shown = await d.storage.present(copy, { cacheDir, repository, ref: body.ref });
			return {
				node: d.nodeName,
				device: deviceOf(copy),
				revision: copy.revision,
				repository,
				ref: body.ref,
				cache_dir: cacheDir,
				snapshot: shown.snapshot,
				environment: { HF_HUB_CACHE: cacheDir, HF_HUB_OFFLINE: "1" },
			};
		},
		async withdrawModel({ params, query }) {
			const model = parseModelName(params.model_name);
			const tier = query.device === undefined ? undefined : tierHere(query.device);
			const here = d.storage.copies({ model }).filter((copy) => tier === undefined || copy.tier === tier);
			const meant = query.revision === undefined ? here : [ofRevision(here, query.revision)];
			const copies = meant.filter((copy) => copy !== undefined);
			const [first] = copies;
			if (first === undefined) throw modelNotFound(model, d.nodeName);
			let withdrawn = 0;
			for (const copy of copies) withdrawn += await d.storage.withdraw(copy);
			return { node: d.nodeName, device: deviceOf(first), withdrawn };
		},
	};
}

/** Where others could put links, we would write through them. */
function privateDirectory(path: string): string {
	const { uid, mode } = statSync(path);
	if (uid === process.getuid?.() && (mode & 0o022) === 0) return path;
	throw invalid(
		"unsafe_cache_dir",
		`${path} cannot be used: it belongs to another user, or others may write to it.`,
		{ path },
		"Make a directory for the agent's user alone, or leave --cache-dir out.",
	);
}

/** What programs will ask for: the repository that it came from, or its name here. */
function repositoryOf(
	{ model_name: model, source_url: source }: ModelCopy,
	wanted: string | undefined,
): string {
	const [, hub] = /^hf:([^@:]+)/.exec(source ?? "") ?? [];
	const repository = wanted ?? hub ?? model;
	if (isModelName(repository) && repository.split("/").length <= 2 && !repository.includes("--"))
		return repository;
	throw invalid(
		"bad_repository",
		`${JSON.stringify(repository)} is no name of a repository: wanted ORG/NAME or NAME, without "--".`,
		{ field: "repository" },
		"Give one with --repository.",
	);
}
