/** One guard: what stands between gswarm and bad input, and the tests that miss it when it is gone. */
export interface Guard {
	/** Unique; a part of it is enough for `--only`. */
	name: string;
	file: string;
	/** Text that is in the file exactly once, and what stands there without the guard. */
	find: string;
	replace: string;
	tests: readonly string[];
}
