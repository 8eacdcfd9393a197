/**
 * A copy at rest is read again; a damaged one is out of use from that moment, and is replaced from another place that
 * has the same content, where there is one: another tier of this node, else another node that the host names.
 */
import type { TlsTrust } from "../../core/identity/identity.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import { type SourceContext, peerSource } from "../../core/source/source.ts";
import type { Storage, VerifyReport } from "../../core/storage/storage.ts";
import {
	type TransferInput,
	type TransferProgress,
	type Transfers,
	mendingSource,
	storageSource,
} from "../../core/transfer/transfer.ts";
import { GswarmError, asGswarmError, modelNotFound } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";

export interface VerifyRequest {
	model_name: string;
	device: string;
	/** Null: every part. */
	sample_percent: number | null;
	/** Null: the task's id, so that each run reads another sample. */
	seed: string | null;
	sha256: boolean;
	repair: boolean;
}

/** Where the host says the same content is. */
export interface RepairPlace {
	/** Of its peer listener. */
	baseUrl: string;
	grant: string;
	manifest: Manifest;
	node: string;
	device: string;
	trust: TlsTrust;
}

export interface VerificationDependencies {
	nodeName: string;
	storage: Storage;
	transfers: Pick<Transfers, "run">;
	sources: SourceContext;
	/** Asks the host for another copy; undefined: there is none that can be reached. @throws host_unreachable */
	findRepair(copy: ModelCopy, taskId: string): Promise<RepairPlace | undefined>;
	/** The place is no longer read. */
	endRepair(place: RepairPlace, taskId: string): Promise<void>;
	reportNow(): Promise<unknown>;
	/** sha256 is computed whatever the line. */
	verifySha256: boolean;
	run(context: TaskContext, input: Omit<TransferInput, "signal">): Promise<ModelCopy>;
}

/** How one copy was found, and what became of it. */
interface CopyReport {
	revision: string;
	content_id: string;
	bytes_checked: number;
	parts_checked: number;
	parts_total: number;
	files_damaged: number;
	/** The first of them. */
	damaged: { path: string; parts: number[] | null; problem: string }[];
	/** The device whose copy it was replaced from. */
	repaired_from: string | null;
	/** Why it was not; null when it was, or when nothing was wrong. */
	not_repaired: string | null;
}

/** More would make the task's row long and tell nobody more. */
const FILES_TOLD = 20;
const PARTS_TOLD = 100;

/** The handler of `verify` tasks. @throws TASK_FAILED checksum_mismatch when a copy was found damaged and stays so */
export function createVerification(d: VerificationDependencies) {
	return async (context: TaskContext, tier: string): Promise<Record<string, unknown>> => {
		const request = context.request as unknown as VerifyRequest;
		const model = parseModelName(request.model_name);
		const device = `${d.nodeName}:${tier}`;
		const copies = d.storage.copies().filter((copy) => copy.model_name === model && copy.tier === tier);
		if (copies.length === 0) throw modelNotFound(model, device);
		const seed = request.seed ?? context.taskId;
		const progress = progressOver(
			context,
			copies.reduce((sum, copy) => sum + copy.size_bytes, 0),
		);
		const reports: CopyReport[] = [];
		for (const copy of copies) {
			const { sample_percent, sha256 } = request;
			const found = await d.storage.verify(
				copy,
				{ samplePercent: sample_percent ?? undefined, seed, sha256, onBytes: progress.reading },
				context.signal,
			);
			progress.next();
			const report = reportOf(copy, found);
			reports.push(report);
			if (found.damaged.length === 0) continue;
			context.log.warn("verify.damaged", {
				model,
				revision: copy.revision,
				tier,
				files: found.damaged.length,
			});
			// Whoever would choose this copy hears of it before it is repaired.
			await d.reportNow();
			if (request.repair) Object.assign(report, await repaired(d, context, copy, found, progress));
			else report.not_repaired = "it was not asked for";
		}
		await d.reportNow();
		const result = { device, model_name: model, seed, copies: reports };
		const stays = reports.filter((report) => report.files_damaged > 0 && report.repaired_from === null);
		if (stays.length > 0) throw damaged(model, device, stays, result);
		return result;
	};
}

interface OverallProgress {
	reading(bytesDone: number, bytesTotal: number): void;
	/** What comes is counted after what was. */
	next(): void;
	repairing(progress: TransferProgress): void;
}

/** Bytes read and bytes brought, as one number that only grows. */
function progressOver(context: TaskContext, expectedBytes: number): OverallProgress {
	let before = 0;
	let now = 0;
	const tell = (
		phase: "verifying" | "copying",
		done: number,
		total: number,
		waitingFor: string | null,
	): void => {
		now = done;
		context.report({
			phase,
			bytesDone: before + done,
			bytesTotal: Math.max(before + total, phase === "verifying" ? total : expectedBytes),
			waitingFor,
		});
	};
	return {
		reading: (done, total) => tell("verifying", done, total, null),
		next() {
			before += now;
			now = 0;
		},
		repairing: (p) => tell("copying", Math.max(now, p.bytesDone), p.bytesTotal, p.waitingFor ?? null),
	};
}

/** @throws what another attempt may not meet: a connection lost, a stop */
async function repaired(
	d: VerificationDependencies,
	context: TaskContext,
	copy: ModelCopy,
	found: VerifyReport,
	progress: OverallProgress,
): Promise<Pick<CopyReport, "repaired_from" | "not_repaired">> {
	if (copy.place === "adopted")
		return { repaired_from: null, not_repaired: "it was adopted, and its files are not ours to write" };
	const holders = d.storage.holders(copy);
	if (holders.length > 0) return { repaired_from: null, not_repaired: `it is in use: ${holders.join(", ")}` };
	try {
		const from = await replace(d, context, copy, found, progress);
		progress.next();
		return from === undefined
			? { repaired_from: null, not_repaired: "no other copy of it can be reached" }
			: { repaired_from: from, not_repaired: null };
	} catch (error) {
		const failure = asGswarmError(error);
		if (context.signal.aborted || failure.retryable) throw error;
		context.log.warn("verify.not_repaired", { model: copy.model_name, error });
		return { repaired_from: null, not_repaired: failure.message };
	}
}

/** The device it was brought from; undefined when there is no other copy. */
async function replace(
	d: VerificationDependencies,
	context: TaskContext,
	copy: ModelCopy,
	{ damaged: files }: VerifyReport,
	progress: OverallProgress,
): Promise<string | undefined> {
	const common = {
		transferId: context.taskId,
		tier: copy.tier,
		model: parseModelName(copy.model_name),
		revision: parseRevision(copy.revision),
		modelType: copy.model_type,
		format: copy.format,
		sourceUrl: copy.source_url,
		receivingPhase: "copying" as const,
		onProgress: progress.repairing,
	};
	const twin = d.storage
		.copies()
		.find((one) => one.content_id === copy.content_id && one.status === "ready" && one.tier !== copy.tier);
	if (twin !== undefined) {
		using source = storageSource(d.storage, twin, `repair ${context.taskId}`);
		await d.run(context, { ...common, source, trustPartDigests: !d.verifySha256 });
		return `${d.nodeName}:${twin.tier}`;
	}
	const place = await d.findRepair(copy, context.taskId);
	if (place === undefined) return undefined;
	try {
		const peer = peerSource(d.sources, {
			...place,
			contentId: copy.content_id,
			model: common.model,
			revision: common.revision,
			tls: place.trust,
		});
		const remains = {
			directory: d.storage.remainsOf(copy),
			damaged: new Map(files.map(({ path, parts }) => [path, parts])),
		};
		const trustPartDigests = place.baseUrl.startsWith("https:") && !d.verifySha256;
		await d.run(context, { ...common, source: mendingSource(peer, remains), trustPartDigests, streams: 4 });
		return place.device;
	} finally {
		await d.endRepair(place, context.taskId);
	}
}

function reportOf(copy: ModelCopy, found: VerifyReport): CopyReport {
	return {
		revision: copy.revision,
		content_id: copy.content_id,
		bytes_checked: found.bytesChecked,
		parts_checked: found.partsChecked,
		parts_total: found.partsTotal,
		files_damaged: found.damaged.length,
		damaged: found.damaged
			.slice(0, FILES_TOLD)
			.map(({ path, parts, problem }) => ({ path, parts: parts?.slice(0, PARTS_TOLD) ?? null, problem })),
		repaired_from: null,
		not_repaired: null,
	};
}

function damaged(
	model: string,
	device: string,
	stays: readonly CopyReport[],
	result: Record<string, unknown>,
): GswarmError {
	const [first] = stays;
	const file = first?.damaged[0];
	const more = (first?.files_damaged ?? 0) - 1;
	return new GswarmError(
		"TASK_FAILED",
		`${model} on ${device} is damaged and out of use: of ${file?.path}${more > 0 ? ` and ${more} other files` : ""}, ${file?.problem}; it was not repaired: ${first?.not_repaired}.`,
		{
			reason: "checksum_mismatch",
			details: result,
			hint: `Download or copy it to ${device} again; that replaces it. Look at the disk.`,
		},
	);
}
