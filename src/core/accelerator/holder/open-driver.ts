/** The driver of a plan. Each thread of a holder opens its own. */
import { openCudaDriver } from "./cuda-driver.ts";
import type { DeviceDriver } from "./driver.ts";
import type { HolderPlan } from "./messages.ts";
import { openSimDriver } from "./sim-driver.ts";

/** @throws DeviceError */
export function openDriver(plan: HolderPlan): DeviceDriver {
	switch (plan.driver) {
		case "cuda":
			return openCudaDriver(plan.library);
		case "sim":
			return openSimDriver(plan.memoryBytes);
	}
}
