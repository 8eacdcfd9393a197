/** A thread that submits downloads, each of another model, from several clients until its time is over. */
import { createApiClient } from "../src/api/client.ts";

const CLIENTS = 32;

interface Storm {
	baseUrl: string;
	token: string;
	/** Of a source; each model is a file of it. */
	sourceUrl: string;
	seconds: number;
}

const scope = globalThis as unknown as {
	postMessage(submitted: number): void;
	onmessage: (event: MessageEvent<Storm>) => void;
};

scope.onmessage = ({ data: { baseUrl, token, sourceUrl, seconds } }) => {
	const api = createApiClient({ baseUrl, token: () => token });
	const end = performance.now() + seconds * 1000;
	let submitted = 0;
	const client = async (_: unknown, n: number): Promise<void> => {
		for (let round = 0; performance.now() < end; round++) {
			const name = `storm-${n}-${round}`;
			const body = { source_url: `${sourceUrl}/${name}.gguf`, target_device: "one:disk" };
			await api.call("downloadModel", { params: { model_name: name }, body });
			submitted++;
		}
	};
	void Promise.all(Array.from({ length: CLIENTS }, client)).then(() => scope.postMessage(submitted));
};
