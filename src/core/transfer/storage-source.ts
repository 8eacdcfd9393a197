/** A copy on this node as a source, for disk → dram and back. */
import type { ModelCopy } from "../../schema/model.ts";
import type { Source } from "../source/source.ts";
import type { Storage } from "../storage/storage.ts";

/** Holds the copy until it is disposed: `using source = storageSource(storage, copy, "copy to dram")`. */
export function storageSource(_storage: Storage, _copy: ModelCopy, _why: string): Source & Disposable {
	throw new Error("not built yet");
}
