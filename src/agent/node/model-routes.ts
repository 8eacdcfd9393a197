/** The node's routes about models: what is here, and bringing, moving and removing it. */
import type { Contract } from "../../api/contract.ts";
import type { BodyOf, QueryOf } from "../../api/route.ts";
import { type Reservation, bytesReservation, modelReservation } from "../../core/queue/queue.ts";
import { openSource } from "../../core/source/source.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type ModelName, type Revision, parseModelName } from "../../schema/names.ts";
import { isServing } from "../../schema/service.ts";
import { downloadSource } from "../download-source.ts";
import { inUse, servedThere, sameDevice } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { modelDetail, modelPage, modelSummary } from "./model-view.ts";
import { onlyTier } from "./only-tier.ts";
import type { Asked, NodeRouteDependencies, NodeRequests, SubmitBody } from "./node-requests.ts";
import type { CopyRequest } from "./copy-request.ts";
import { isGpu } from "./holdings.ts";
import type { DownloadRequest } from "./download-task.ts";
import { copyNowOr, ofRevision } from "./named-copy.ts";
import type { DeleteRequest } from "./removal-task.ts";
import { serves } from "./serve-task.ts";
import type { VerifyRequest } from "./verification.ts";

type ModelRoutes = Pick<
	Handlers<"node">,
	| "listModels"
	| "getModel"
	| "deleteModel"
	| "downloadModel"
	| "moveModel"
	| "copyModel"
	| "pullModel"
	| "verifyModel"
	| "resolveModel"
	| "grantParts"
	| "releaseGrant"
>;

/** A receiver that stops reading for so long has lost its grant and asks for another. */
const GRANT_TTL_MS = 120_000;
/** A repair reads what is right of the damaged copy first, and may take as long as a disk is slow. */
const REPAIR_LIMITS = { unusedMs: 3_600_000, mostMs: 12 * 3_600_000 };

export function modelRoutes(d: NodeRouteDependencies, requests: NodeRequests): ModelRoutes {
	const { tierHere, deviceHere, sentBefore, submit, tiersComing, fits, resources } = requests;
	/** The copy that others read when they name a device: of what is on a GPU, its files. */
	const readable = (name: string, device: string): ModelCopy => {
		const copy = d.holdings.require(parseModelName(name), deviceHere(device));
		return isGpu(copy.tier) ? d.holdings.requireFiles(copy) : copy;
	};
	const transferBetween = async (
		type: "copy" | "move",
		name: string,
		body: BodyOf<Contract["copyModel"]> & { keep_source?: boolean },
		asked: Asked,
	): Promise<SubmitBody> => {
		const before = await sentBefore(asked);
		if (before !== undefined) return before;
		const model = parseModelName(name);
		const [from, to] = [deviceHere(body.source_device), deviceHere(body.target_device)];
		if (from === to) throw sameDevice(`${d.nodeName}:${to}`);
		const copy = copyNowOr(body.dependencies, () => d.holdings.require(model, from));
		if (copy !== undefined && isGpu(from)) d.holdings.requireFiles(copy);
		const isThere = copy !== undefined && d.holdings.copy(model, to, copy.revision) !== undefined;
		const comingBytes = isThere ? 0 : (copy?.size_bytes ?? 0);
		if (comingBytes > 0) await fits(to, comingBytes);
		const [serving] = servedOn(model, from);
		const leaves = type === "move" && body.keep_source !== true;
		if (leaves && serving !== undefined)
			throw servedThere(model, `${d.nodeName}:${from}`, serving.service_id);
		const request: CopyRequest = {
			model_name: model,
			source_device: `${d.nodeName}:${from}`,
			target_device: `${d.nodeName}:${to}`,
			keep_source: type === "copy" || body.keep_source === true,
			verify_checksum: body.verify_checksum ?? null,
			bandwidth_limit: body.bandwidth_limit ?? null,
		};
		const reservations = [
			modelReservation(model, from, request.keep_source ? "shared" : "exclusive"),
			modelReservation(model, to, "exclusive"),
			...(comingBytes === 0 ? [] : bytesOn(to, comingBytes)),
		];
		const more = {
			reservations,
			resources: resources([model], [from, to]),
			sizeBytes: copy?.size_bytes,
			dependencies: body.dependencies,
		};
		return submit(type, model, request, body.priority, more, asked);
	};
	const servedOn = (model: string, tier: string) =>
		d.services
			.list()
			.filter((s) => s.model_name === model && s.device === `${d.nodeName}:${tier}` && isServing(s));
	const removal = async (
		name: string,
		query: QueryOf<Contract["deleteModel"]>,
		asked: Asked,
	): Promise<SubmitBody> => {
		const { device: deviceText, force, delete_files: deleteFiles } = query;
		const model = parseModelName(name);
		const copies = d.holdings.copies().filter((c) => c.model_name === model);
		const tiers = [...new Set(copies.map((c) => c.tier))];
		const tier = deviceText === undefined ? onlyTier(tiers, model, d.nodeName) : deviceHere(deviceText);
		const copy = copyToRemove(copies, { model, tier, revision: query.revision }, d.nodeName);
		const serving = d.services.list().filter((s) => serves(s, copy, d.nodeName) && isServing(s));
		const [first] = serving;
		if (first !== undefined && !force) throw inUse(model, first.service_id);
		await d.removal.check(copy, { force, deleteFiles });
		const request: DeleteRequest = {
			model_name: model,
			device: `${d.nodeName}:${tier}`,
			revision: copy.revision,
			force,
			...(deleteFiles ? { delete_files: true } : {}),
		};
		const more = {
			// With force the services of the copy are stopped by the task itself, so it must not wait for them.
			reservations: [modelReservation(model, tier, "exclusive")],
			resources: resources([model], [tier]),
			joinKey: `delete ${model} ${copy.revision} ${tier} ${force} ${deleteFiles}`,
		};
		return submit("delete", model, request, "high", more, asked);
	};

	/** Where files that come from another node lie, before and after they are loaded: on a disk, where they fit. */
	const viaFor = async (
		model: ModelName,
		{ content_id, size_bytes }: Pick<BodyOf<Contract["pullModel"]>, "content_id" | "size_bytes">,
	): Promise<string | undefined> => {
		if (d.holdings.fileCopy(model, content_id) !== undefined) return undefined;
		const tiers = d.storage.tiers().filter(({ name }) => d.storage.usage(name).available >= size_bytes);
		const best = tiers.find(({ durable }) => durable) ?? tiers[0];
		if (best === undefined) await fits("disk", size_bytes);
		return best?.name;
	};
	/** The newest grant of each operation that reads from this node. */
	const grantOf = new Map<string, string>();
	const release = (operationId: string): boolean => {
		const grant = grantOf.get(operationId);
		if (grant !== undefined) d.grants.revoke(grant);
		return grantOf.delete(operationId);
	};

	return {
		listModels: ({ query }) => {
			const { type, status, page, per_page: perPage } = query;
			const tier = query.location === undefined ? undefined : deviceHere(query.location);
			return { ...modelPage(d, { type, status, tier }, { page, perPage }), page, per_page: perPage };
		},
		getModel: ({ params }) => {
			const model = parseModelName(params.model_name);
			const summary = modelSummary(d, model);
			if (summary === undefined) throw modelNotFound(model, d.nodeName);
			const copies = [...d.storage.copies({ model }), ...d.holdings.onGpus()];
			return modelDetail(summary, copies, d.nodeName);
		},
		deleteModel: async ({ params, query, request, caller }) =>
			(await sentBefore({ request, caller })) ?? removal(params.model_name, query, { request, caller }),
		downloadModel: async ({ params, body, request, caller }) => {
			const model = parseModelName(params.model_name);
			const tier = tierHere(body.target_device ?? "disk");
			const known = d.storage.copies().find((c) => c.model_name === model);
			const downloadRequest: DownloadRequest = {
				model_name: model,
				source_url: downloadSource(model, body.source_url, known?.source_url ?? undefined, body.revision),
				target_device: `${d.nodeName}:${tier}`,
				model_type: body.model_type === "unknown" ? null : (body.model_type ?? null),
				verify_checksum: body.verify_checksum ?? null,
				include: body.include ?? [],
				exclude: body.exclude ?? [],
				all_files: body.all_files ?? false,
				bandwidth_limit: body.bandwidth_limit ?? null,
			};
			// Asks nothing over the network, and refuses at once what can be refused without it.
			openSource(downloadRequest.source_url, d.sources);
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: resources([model], [tier]),
				joinKey: `download ${sha256Hex(JSON.stringify(downloadRequest))}`,
				dependencies: body.dependencies,
			};
			return submit("download", model, downloadRequest, body.priority, more, { request, caller });
		},
		moveModel: ({ params, body, request, caller }) =>
			transferBetween("move", params.model_name, body, { request, caller }),
		copyModel: ({ params, body, request, caller }) =>
			transferBetween("copy", params.model_name, body, { request, caller }),
		pullModel: async ({ params, body, request, caller }) => {
			const before = await sentBefore({ request, caller });
			if (before !== undefined) return before;
			const model = parseModelName(params.model_name);
			const tier = deviceHere(body.target_device);
			const there = d.holdings.copy(model, tier, body.revision);
			const isThere = there?.content_id === body.content_id;
			if (!isThere) await fits(tier, body.size_bytes);
			const via = isGpu(tier) ? await viaFor(model, body) : undefined;
			const pull: CopyRequest = {
				...(via === undefined ? {} : { via: `${d.nodeName}:${via}` }),
				model_name: model,
				source_device: body.source.device,
				target_device: `${d.nodeName}:${tier}`,
				keep_source: true,
				verify_checksum: body.verify_checksum,
				bandwidth_limit: body.bandwidth_limit,
				compression: body.compression,
				pull: {
					operation_id: body.operation_id,
					revision: body.revision,
					content_id: body.content_id,
					model_type: body.model_type,
					source_url: body.source_url,
					format: body.format,
				},
			};
			const more = {
				reservations: [
					modelReservation(model, tier, "exclusive"),
					...(via === undefined ? [] : [modelReservation(model, via, "exclusive")]),
					...(isThere ? [] : bytesOn(via ?? tier, body.size_bytes)),
				],
				resources: {
					devices: [body.source.device, `${d.nodeName}:${tier}`],
					models: [model],
					exclusive: false,
				},
				sizeBytes: body.size_bytes,
			};
			return submit("copy", model, pull, body.priority, more, { request, caller });
		},
		verifyModel: async ({ params, body, request, caller }) => {
			const model = parseModelName(params.model_name);
			const copies = d.holdings.copies().filter((c) => c.model_name === model);
			const coming = tiersComing(model, body.dependencies);
			const tiers = [...new Set([...copies.map((c) => c.tier), ...coming])];
			const tier = body.device === undefined ? onlyTier(tiers, model, d.nodeName) : deviceHere(body.device);
			const waits = (body.dependencies ?? []).length > 0;
			if (!waits && !tiers.includes(tier)) throw modelNotFound(model, `${d.nodeName}:${tier}`);
			if (body.sha256 === true && body.sample_percent !== undefined) {
				throw invalid(
					"sample_without_sha256",
					"`sha256` is of whole files; a sample reads parts of them.",
					{ field: "sample_percent" },
					"Leave one of the two out.",
				);
			}
			const verify: VerifyRequest = {
				model_name: model,
				device: `${d.nodeName}:${tier}`,
				sample_percent: body.sample_percent ?? null,
				seed: body.seed ?? null,
				sha256: body.sha256 ?? (d.verifySha256 && body.sample_percent === undefined),
				repair: body.repair,
			};
			const more = {
				// Who may replace a copy has it alone from the start.
				reservations: [modelReservation(model, tier, body.repair ? "exclusive" : "shared")],
				resources: resources([model], [tier]),
				dependencies: body.dependencies,
			};
			return submit("verify", model, verify, body.priority, more, { request, caller });
		},
		resolveModel: ({ params, query }) => {
			const copy = readable(params.model_name, query.device);
			const manifest = d.storage.manifest(copy.content_id);
			if (manifest === undefined) throw notFound("manifest", copy.content_id);
			return { copy, manifest };
		},
		grantParts: ({ body }) => {
			const model = parseModelName(body.model_name);
			const copy = readable(body.model_name, body.device);
			if (copy.content_id !== body.content_id)
				throw modelNotFound(model, `${d.nodeName} with content ${body.content_id.slice(0, 12)}`);
			const hold = d.storage.hold(
				model,
				copy.revision as Revision,
				copy.tier,
				`being copied to ${body.receiver}`,
				"copy",
			);
			const tagKey = d.tags.keyOf(body.content_id);
			const grant = d.grants.grant({
				tagKey,
				contentId: body.content_id,
				receiver: body.receiver,
				ttlMs: GRANT_TTL_MS,
				...(body.purpose === "repair" ? REPAIR_LIMITS : {}),
				hold,
			});
			release(body.operation_id);
			grantOf.set(body.operation_id, grant);
			return { grant, tag_key: tagKey, expires_in_s: GRANT_TTL_MS / 1000 };
		},
		releaseGrant: ({ params }) => ({ released: release(params.task_id) }),
	};
}

/** The copy that is meant; of several revisions one has to be named. */
function copyToRemove(
	copies: readonly ModelCopy[],
	{ model, tier, revision }: { model: string; tier: string; revision: string | undefined },
	nodeName: string,
): ModelCopy {
	const onTier = copies.filter((c) => c.tier === tier);
	const one = revision === undefined ? undefined : ofRevision(onTier, revision);
	const here = revision === undefined ? onTier : one === undefined ? [] : [one];
	const [only] = here;
	if (only === undefined)
		throw modelNotFound(revision === undefined ? model : `${model}@${revision}`, `${nodeName}:${tier}`);
	if (here.length === 1) return only;
	const revisions = here.map((c) => c.revision);
	throw invalid(
		"ambiguous_revision",
		`${nodeName}:${tier} has ${here.length} revisions of ${JSON.stringify(model)}: ${revisions.join(", ")}.`,
		{ revisions },
		"Name one with `revision`.",
	);
}

/** Room on a tier of files. That of a GPU is taken when the model is loaded: what holds it then may go at any time. */
function bytesOn(tier: string, bytes: number): Reservation[] {
	return isGpu(tier) ? [] : [bytesReservation(tier, bytes)];
}
