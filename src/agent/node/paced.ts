/** Bytes on their way out at a limited rate. */
import type { Bandwidth } from "../../core/transfer/transfer.ts";

/**
 * The file's bytes as they are where there is no limit: the kernel sends those itself. With one, block by block; the
 * body of a receiver that goes away is closed and waits no more.
 */
export function paced(
	bytes: Blob | ReadableStream<Uint8Array>,
	up: Bandwidth,
	receiver: string,
): Blob | ReadableStream<Uint8Array> {
	const lane = up.join(receiver, undefined);
	if (!lane.isLimited()) {
		lane[Symbol.dispose]();
		return bytes;
	}
	const gone = new AbortController();
	const reader = (bytes instanceof ReadableStream ? bytes : bytes.stream()).getReader();
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				const { done, value } = await reader.read();
				if (done) {
					lane[Symbol.dispose]();
					controller.close();
					return;
				}
				await lane.pass(value.byteLength, gone.signal);
				controller.enqueue(value);
			},
			async cancel() {
				gone.abort();
				lane[Symbol.dispose]();
				await reader.cancel();
			},
		},
		{ highWaterMark: 0 },
	);
}
