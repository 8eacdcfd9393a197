/** A model that this node receives together with others: from the nodes that have it, or from where it comes from. */
import type { Contract } from "../../api/contract.ts";
import type { AnswerOf, BodyOf } from "../../api/route.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import {
	describeSealed,
	openSource,
	relayReader,
	type Source,
	type SourceContext,
} from "../../core/source/source.ts";
import {
	createSwarm,
	type Shares,
	type SwarmView,
	type TransferInput,
} from "../../core/transfer/transfer.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import { isOpenHttp } from "../../platform/plain-http.ts";
import type { Compression } from "../../schema/compression.ts";
import { GswarmError } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type ModelName, parseModelName, parseRevision, type Revision } from "../../schema/names.ts";
import { trustIn } from "../granted-parts.ts";

export interface SwarmRequest {
	model_name: string;
	source_device: string;
	target_device: string;
	source_url: string | null;
	verify_checksum: boolean | null;
	bandwidth_limit: number | null;
	/** Not in a task of an earlier version. */
	compression?: Compression;
	swarm: {
		operation_id: string;
		/** Null: a download, nobody knows yet what the bytes are. */
		sealed: {
			revision: string;
			content_id: string;
			size_bytes: number;
			format: string;
			source_device: string;
		} | null;
		model_type: string | null;
		include: string[];
		exclude: string[];
		all_files: boolean;
	};
}

export type SwarmQuestion = BodyOf<Contract["findSwarm"]>;

/** The host's answer, and how its peers are met. */
export type SwarmAnswer = AnswerOf<Contract["findSwarm"]> & {
	/** Of the cluster. */
	ca: string;
	/** Parts may go over plain HTTP. */
	trustedNetwork: boolean;
};

export interface SwarmTaskDependencies {
	ids: Ids;
	shares: Shares;
	sources: SourceContext;
	/** Asks the host who takes part in an operation. */
	findSwarm(question: SwarmQuestion): Promise<SwarmAnswer>;
	/** `transfer.verify: sha256` of the configuration. */
	verifySha256: boolean;
}

type Run = (input: Omit<TransferInput, "signal" | "onProgress">) => Promise<ModelCopy>;

/** Whether a task of a node is one of several receivers. */
export function isSwarmRequest(request: object): request is SwarmRequest {
	return "swarm" in request && typeof request.swarm === "object";
}

export async function receiveInSwarm(
	d: SwarmTaskDependencies,
	context: TaskContext,
	tier: string,
	run: Run,
): Promise<ModelCopy> {
	const request = context.request as unknown as SwarmRequest;
	const { sealed, operation_id, ...choice } = request.swarm;
	const model = parseModelName(request.model_name);
	const ask = (key: string, refused: readonly string[], want_manifest = false): Promise<SwarmAnswer> =>
		d.findSwarm({ operation_id, model_name: model, key, refused: [...refused], want_manifest });
	const common = {
		transferId: context.taskId,
		tier,
		model,
		modelType: choice.model_type ?? undefined,
		verifyChecksum: request.verify_checksum ?? undefined,
		bandwidthLimit: request.bandwidth_limit ?? undefined,
	};
	const { clock } = d.sources;
	const join = async (key: string, refused: readonly string[]): Promise<SwarmView> =>
		viewOf(d, await ask(key, refused), { key, compression: request.compression });
	const log = context.log;
	if (sealed !== null) {
		const first = await ask(sealed.content_id, [], true);
		const revision = parseRevision(sealed.revision);
		const base = sealedBase(first.manifest, { ...sealed, model, revision });
		await using swarm = createSwarm(
			{ clock, ids: d.ids, log, shares: d.shares },
			{ base, isOrigin: false, keyOf: () => sealed.content_id, join },
		);
		const encrypted = first.peers.every(({ base_url: url }) => url.startsWith("https:"));
		return await run({
			...common,
			source: swarm.source,
			swarm,
			revision,
			format: sealed.format,
			sourceUrl: request.source_url,
			receivingPhase: "copying",
			// XXH64 finds accidents and convicts no liar: without TLS between the nodes, sha256 has to.
			trustPartDigests: encrypted && request.verify_checksum !== true && !d.verifySha256,
		});
	}
	const { include, exclude, all_files: allFiles } = choice;
	const base = openSource(request.source_url ?? "", { ...d.sources, include, exclude, allFiles });
	let isArchive = false;
	await using swarm = createSwarm(
		{ clock, ids: d.ids, log, shares: d.shares },
		{
			base,
			isOrigin: true,
			keyOf: ({ sourceId, archive }) => {
				isArchive = archive !== undefined;
				return sourceId;
			},
			join,
		},
	);
	const copy = await run({ ...common, source: swarm.source, swarm });
	// What an archive became has other files than the archive.
	if (!isArchive) swarm.published(copy.content_id);
	return copy;
}

function viewOf(
	d: SwarmTaskDependencies,
	answer: SwarmAnswer,
	{ key, compression }: { key: string; compression: Compression | undefined },
): SwarmView {
	const { ca, trustedNetwork } = answer;
	const peers = answer.peers.filter(({ base_url: url }) => trustedNetwork || !isOpenHttp(url));
	return {
		members: answer.members,
		self: answer.self,
		peers: peers.map(({ node, base_url: baseUrl, server_name: serverName, grant }) => ({
			node,
			place: `${baseUrl} ${grant}`,
			relay: relayReader(d.sources, {
				baseUrl,
				grant,
				key,
				compression,
				tls: trustIn(node, { ca, serverName }),
			}),
		})),
	};
}

/** What is received is known beforehand; the nodes that have it are asked for its bytes. @throws wrong_manifest */
function sealedBase(
	manifest: Manifest | null,
	copy: { model: ModelName; revision: Revision; content_id: string; source_device: string },
): Source {
	if (manifest === null || sha256Hex(canonicalManifest(manifest)) !== copy.content_id) {
		throw new GswarmError("TASK_FAILED", `The manifest of ${copy.model} is not the one that was announced.`, {
			reason: "wrong_manifest",
			details: { wanted: copy.content_id },
		});
	}
	const uri = `${copy.source_device}/${copy.model}@${copy.revision}`;
	return {
		describe: () => Promise.resolve(describeSealed(manifest.files, { uri, ...copy })),
		read: () => Promise.reject(new Error("a copy is read from nodes")),
	};
}
