/* Stand-in for libcuda.so.1 and libnvidia-ml.so.1, for tests: the same symbols over the memory of this machine. It is
 * no GPU. Copies of a stream are done when the stream is waited for, and never before, so that whoever fills a buffer
 * too early or reads one too early gets wrong bytes. The file CONTROL (compiled in) says what goes wrong, one
 * `name=value` a line, read at each call. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long long control(const char *name, long long otherwise) {
	char line[200];
	long long value = otherwise;
	FILE *file = fopen(CONTROL, "r");
	if (file == NULL) return otherwise;
	while (fgets(line, sizeof line, file) != NULL) {
		size_t length = strlen(name);
		if (strncmp(line, name, length) == 0 && line[length] == '=') value = atoll(line + length + 1);
	}
	fclose(file);
	return value;
}

/* `NAME=code` fails the call NAME; `hang=1` keeps every call of it waiting. */
#define MAY_FAIL(name) \
	do { \
		while (control("hang." name, 0)) usleep(20000); \
		int code = (int)control(name, 0); \
		if (code != 0) return code; \
	} while (0)

#define DEVICES 8
static unsigned devices(void) { return (unsigned)control("devices", 1); }
static uint64_t total(void) { return (uint64_t)control("memory", 64 << 20); }

/* What another process has taken, which the look at the device has not seen. */
static uint64_t taken(void) { return (uint64_t)control("taken", 0); }

/* ---- libcuda ---- */
static uint64_t used;
typedef struct { uint64_t address; uint64_t bytes; } block;
static block blocks[65536];
static int block_count;

typedef struct copy { void *to; const void *from; uint64_t bytes; int inward; struct copy *next; } copy;
typedef struct { copy *first, *last; } stream;

int cuInit(unsigned flags) { (void)flags; MAY_FAIL("cuInit"); return 0; }
int cuDeviceGet(int *device, int ordinal) { MAY_FAIL("cuDeviceGet"); *device = ordinal; return ordinal < (int)devices() ? 0 : 101; }
int cuDevicePrimaryCtxRetain(void **context, int device) { MAY_FAIL("cuDevicePrimaryCtxRetain"); *context = (void *)(intptr_t)(0x5000 + device); return 0; }
int cuCtxSetCurrent(void *context) { MAY_FAIL("cuCtxSetCurrent"); return context == NULL ? 201 : 0; }
int cuMemGetInfo_v2(uint64_t *free_bytes, uint64_t *total_bytes) {
	MAY_FAIL("cuMemGetInfo_v2");
	pthread_mutex_lock(&lock);
	*total_bytes = total();
	*free_bytes = total() - used - taken();
	pthread_mutex_unlock(&lock);
	return 0;
}
int cuMemAlloc_v2(uint64_t *address, uint64_t bytes) {
	MAY_FAIL("cuMemAlloc_v2");
	pthread_mutex_lock(&lock);
	if (used + taken() + bytes > total()) { pthread_mutex_unlock(&lock); return 2; }
	used += bytes;
	*address = (uint64_t)(uintptr_t)malloc(bytes);
	blocks[block_count++] = (block){*address, bytes};
	pthread_mutex_unlock(&lock);
	return 0;
}
int cuMemFree_v2(uint64_t address) {
	MAY_FAIL("cuMemFree_v2");
	pthread_mutex_lock(&lock);
	int result = 1;
	for (int i = 0; i < block_count; i++)
		if (blocks[i].address == address) {
			used -= blocks[i].bytes;
			free((void *)(uintptr_t)address);
			blocks[i] = blocks[--block_count];
			result = 0;
			break;
		}
	pthread_mutex_unlock(&lock);
	return result;
}
int cuMemHostAlloc(void **address, uint64_t bytes, unsigned flags) {
	(void)flags;
	MAY_FAIL("cuMemHostAlloc");
	return posix_memalign(address, 4096, bytes) == 0 ? 0 : 2;
}
int cuStreamCreate(void **made, unsigned flags) { (void)flags; MAY_FAIL("cuStreamCreate"); *made = calloc(1, sizeof(stream)); return 0; }
static int later(stream *on, void *to, const void *from, uint64_t bytes, int inward) {
	copy *one = malloc(sizeof *one);
	*one = (copy){to, from, bytes, inward, NULL};
	if (on->last == NULL) on->first = one; else on->last->next = one;
	on->last = one;
	return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, uint64_t from, uint64_t bytes, void *on) {
	MAY_FAIL("cuMemcpyHtoDAsync_v2");
	/* A copy that stops short without saying so. */
	return later(on, (void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes - (uint64_t)control("short", 0), 1);
}
int cuMemcpyDtoHAsync_v2(uint64_t to, uint64_t from, uint64_t bytes, void *on) {
	MAY_FAIL("cuMemcpyDtoHAsync_v2");
	return later(on, (void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes, 0);
}
int cuStreamSynchronize(void *which) {
	MAY_FAIL("cuStreamSynchronize");
	stream *on = which;
	while (on->first != NULL) {
		copy *one = on->first;
		memcpy(one->to, one->from, one->bytes);
		/* Memory that does not give back what was put into it. */
		if (!one->inward && one->bytes > 0 && control("flip", 0)) ((unsigned char *)one->to)[one->bytes / 2] ^= 1;
		on->first = one->next;
		free(one);
	}
	on->last = NULL;
	return 0;
}
int cuIpcGetMemHandle(unsigned char *handle, uint64_t address) {
	MAY_FAIL("cuIpcGetMemHandle");
	memset(handle, 0, 64);
	memcpy(handle, &address, sizeof address);
	handle[63] = 0xaa;
	return 0;
}
int cuGetErrorName(int code, const char **name) {
	switch (code) {
	case 2: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return 0;
	case 100: *name = "CUDA_ERROR_NO_DEVICE"; return 0;
	case 700: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; return 0;
	default: return 1;
	}
}

/* ---- libnvidia-ml ---- */
typedef struct { unsigned long long total, free, used; } nvml_memory;
typedef struct { unsigned gpu, memory; } nvml_rates;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } nvml_process;
static unsigned index_of(void *device) { return (unsigned)((uintptr_t)device - 0x1000); }

int nvmlInit_v2(void) { MAY_FAIL("nvmlInit_v2"); return 0; }
const char *nvmlErrorString(int code) { return code == 0 ? "Success" : "Stand-in failure"; }
int nvmlDeviceGetCount_v2(unsigned *count) { MAY_FAIL("nvmlDeviceGetCount_v2"); *count = devices(); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(uintptr_t)(0x1000 + index); return index < devices() ? 0 : 2; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { snprintf(name, length, "Stand-in GPU %u", index_of(device)); return 0; }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) { snprintf(uuid, length, "GPU-stand-in-%u", index_of(device)); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, nvml_memory *memory) {
	(void)device;
	MAY_FAIL("nvmlDeviceGetMemoryInfo");
	memory->total = total();
	memory->used = (unsigned long long)control("nvml_used", 0);
	memory->free = memory->total - memory->used;
	return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, nvml_rates *rates) { (void)device; MAY_FAIL("nvmlDeviceGetUtilizationRates"); rates->gpu = 78; rates->memory = 12; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees) { (void)device; (void)sensor; *degrees = 65; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { (void)device; *milliwatts = 251500; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { (void)device; *milliwatts = 700000; return 0; }
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz) { (void)device; *mhz = clock == 2 ? 2619 : 1980; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, nvml_process *list) {
	(void)device;
	MAY_FAIL("nvmlDeviceGetComputeRunningProcesses_v3");
	*count = 2;
	list[0] = (nvml_process){1234, 1ULL << 30, 0, 0};
	list[1] = (nvml_process){5678, ~0ULL, 0, 0};
	return 0;
}
