/** What nodes that receive the same bytes at the same time tell each other of them. Parts are counted over all files. */
import { z } from "zod";

/** Who asks from here on hears no more than so many parts at once. */
export const MAX_ADDED = 20_000;

export const haveAnswerSchema = z.object({
	/** Names this list; under another one everything heard before is void. */
	epoch: z.string().max(64),
	/** Where the next question goes on. */
	next: z.number().int().nonnegative(),
	/** All of it is there. */
	complete: z.boolean(),
	/** The parts that came since, with the digest of what is there (XXH64, 16 hex digits). */
	added: z.array(z.tuple([z.number().int().nonnegative(), z.string().max(16)])).max(MAX_ADDED),
	/** Rises when what is being read from the origin changes. */
	turn: z.number().int().nonnegative(),
	/** Parts that are being read from the origin now. */
	reading: z.array(z.number().int().nonnegative()).max(1024),
});
export type HaveAnswer = z.infer<typeof haveAnswerSchema>;
