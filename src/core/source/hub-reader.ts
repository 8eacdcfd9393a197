/** Reads ranges of files of one commit, by way of the signed URLs that the hub hands out. */
import { checkedBody, rangeHeader, sourceChanged, type Validator, validatorOf } from "./answer.ts";
import type { ByteRange, SourceFile } from "./contract.ts";
import type { Hub } from "./hub-api.ts";

export type HubReader = (
	file: SourceFile,
	range: ByteRange,
	signal: AbortSignal,
) => Promise<ReadableStream<Uint8Array>>;

/** What a CDN answers for a signed URL that is no longer valid. */
const EXPIRED: readonly number[] = [400, 401, 403, 404, 410];

export function createHubReader(hub: Hub, commit: string): HubReader {
	/** Where the hub said a file is, until that is refused. */
	const places = new Map<string, string>();
	/** Requests that are finding out; ranges of the same file wait for them. */
	const asking = new Map<string, Promise<unknown>>();
	const validators = new Map<string, Validator>();

	const ask = async (
		path: string,
		headers: Record<string, string>,
		signal: AbortSignal,
	): Promise<Response> => {
		const segments = path.split("/").map(encodeURIComponent).join("/");
		const url = `${hub.base}/${hub.uri.repository}/resolve/${commit}/${segments}`;
		const request = hub.get(url, headers, signal);
		asking.set(path, request);
		try {
			const answer = await request;
			if (answer.response.ok) places.set(path, answer.url);
			return answer.response;
		} finally {
			if (asking.get(path) === request) asking.delete(path);
		}
	};
	const open = async (
		path: string,
		headers: Record<string, string>,
		signal: AbortSignal,
	): Promise<Response> => {
		for (let other = asking.get(path); other !== undefined; other = asking.get(path)) {
			await other.catch(() => undefined); // its own caller hears of a failure
		}
		const place = places.get(path);
		if (place === undefined) return await ask(path, headers, signal);
		const { response } = await hub.get(place, headers, signal);
		if (!EXPIRED.includes(response.status)) return response;
		await response.body?.cancel();
		if (places.get(path) === place) places.delete(path);
		return await open(path, headers, signal);
	};
	return async (file, range, signal) => {
		const what = `${hub.uri.repository}/${file.path}`;
		const response = await open(file.path, { range: rangeHeader(range) }, signal);
		if (response.status === 416) {
			await response.body?.cancel();
			throw sourceChanged(what, `${file.sizeBytes} bytes`, "a shorter file");
		}
		if (!response.ok) throw await hub.failed(response);
		const validator = validators.get(file.path);
		validators.set(file.path, validatorOf(response));
		return await checkedBody(response, { what, range, sizeBytes: file.sizeBytes, validator });
	};
}
