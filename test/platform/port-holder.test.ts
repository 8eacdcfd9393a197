import { expect, test } from "bun:test";
import { describePortHolder, listeningInodes } from "../../src/platform/port-holder.ts";

test("the holder of a taken port is named with its pid", () => {
	using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	expect(describePortHolder(listener.port)).toStartWith(`process ${process.pid} (`);
});

test("a free port has no holder", () => {
	const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	const { port } = listener;
	listener.stop(true);
	expect(describePortHolder(port)).toBeUndefined();
});

test("only sockets that listen count, on the exact port", () => {
	const line = (local: string, state: string, inode: number): string =>
		`   0: 0100007F:${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000 100 0 0 10 0`;
	const table = ["header", line("1F40", "0A", 11), line("1F40", "01", 12), line("1F41", "0A", 13)].join("\n");
	expect(listeningInodes(table, 8000)).toEqual(["11"]);
});
