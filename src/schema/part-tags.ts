/** Tags of parts, by which a receiver without TLS knows that nobody changed them on their way. */
import { z } from "zod";

/** Of one question; a receiver asks for those of one request of parts. */
export const MAX_TAGS = 64;

export const tagsAnswerSchema = z.object({
	/** In the order of the parts. */
	tags: z.array(z.string().regex(/^[0-9a-f]{32}$/)).max(MAX_TAGS),
});
