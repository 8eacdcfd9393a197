/** A body that is passed on as it comes, and says when it is over. */

export interface BodyEnd {
	/** The last byte was handed on, or the body broke off: once. */
	end(): void;
	/** The reader went before the end. */
	cancel(reason: unknown): Promise<void> | void;
}

/** The same bytes, read only as they are asked for; a body that breaks off breaks for its reader, too. */
export function endingBody(
	body: ReadableStream<Uint8Array>,
	{ end, cancel }: BodyEnd,
): ReadableStream<Uint8Array> {
	const reader = body.getReader();
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				try {
					const { done, value } = await reader.read();
					if (!done) {
						controller.enqueue(value);
						return;
					}
					end();
					controller.close();
				} catch (error) {
					end();
					// A cut answer must not look like a whole one.
					controller.error(error);
				}
			},
			cancel: async (reason) => {
				await cancel(reason);
				// Nobody is left whom a failure could be told.
				await reader.cancel(reason).catch(() => undefined);
			},
		},
		{ highWaterMark: 0 },
	);
}
