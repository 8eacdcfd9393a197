/** Secrets of people: credentials of hubs and web servers, bound to the origins that may see them. */
import { z } from "zod";

export const MAX_SECRET_LENGTH = 4096;
export const MAX_SECRETS = 100;
export const MAX_ORIGINS = 16;

/** What is told of a secret; its value never is. */
export const secretSchema = z.object({
	name: z.string(),
	/** Where its value is sent, and nowhere else. */
	origins: z.array(z.string()),
	/** Seconds since the epoch. */
	set_at: z.number(),
	/** Name or id of the token that set it. */
	set_by: z.string(),
});
export type SecretDocument = z.output<typeof secretSchema>;
