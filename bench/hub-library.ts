/** `hub-library.ts HUB REPOSITORY FILE TARGET`: one file by the hub's own JavaScript library, for bench/hub. */
import { downloadFile } from "@huggingface/hub";

const [hubUrl = "", repo = "", path = "", target = ""] = process.argv.slice(2);
const found = await downloadFile({ hubUrl, repo, path, xet: false });
if (found === null) throw new Error(`${repo} has no ${path}`);
const writer = Bun.file(target).writer();
for await (const piece of found.stream()) {
	void writer.write(piece);
	await writer.flush();
}
await writer.end();
