/** GPUs of a node, as it reports them. */
import { z } from "zod";

/** One GPU in a heartbeat and in a node's document. Its memory is a tier of that name where it can be used. */
export const gpuSchema = z.object({
	/** `gpu0`: the number that the vendor's own tool shows. */
	device: z.string().max(20),
	product: z.string().max(200),
	/** Why no model can be loaded to it; null: one can. */
	problem: z.string().max(500).nullable(),
	/** There is no such GPU: its memory is the machine's, by configuration. */
	simulated: z.literal(true).optional(),
});
export type GpuSummary = z.infer<typeof gpuSchema>;
