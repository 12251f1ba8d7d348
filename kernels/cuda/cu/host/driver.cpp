// A CUDA driver whose one GPU is the calling thread. Queued work is done before the call returns, one block of threads
// after another (fibers.h). It loads what nvrtc.cpp makes. So all calls of the backend can be tested where there is no
// GPU. Speed cannot be tested, and neither can what happens at once on a GPU and here in turns. Tests choose by
// variables what is wrong with it. PLAYED_GPUS is the number of GPUs, PLAYED_VERSION the driver's version, PLAYED_BYTES
// the GPU's memory.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_IMAGE = 200, NOT_FOUND = 500 };

// The attributes that are asked for, as cuda.h numbers them: as those of an H200.
enum { MULTIPROCESSOR_COUNT = 16, COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76, MEMORY_POOLS_SUPPORTED = 115 };

typedef unsigned long long Address;
typedef std::chrono::steady_clock Clock;
typedef void (*Start)(unsigned blocks, unsigned threads, const void* job);

static size_t chosen(const char* variable, size_t otherwise) {
    const char* text = getenv(variable);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

// Bytes of the GPU, pinned ones of the host among them.
static const size_t TOTAL = chosen("PLAYED_BYTES", 8ull << 30);
static const size_t PAGE = 4096;

static std::mutex lock;
// What is allocated, by address; and all of it together.
static std::map<void*, size_t> sizes;
static size_t used;

struct Event {
    Clock::time_point at;
};

static thread_local void* current;
static char context;

static int allocate(void** start, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    if (bytes == 0) return INVALID_VALUE;
    size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
    if (used + whole > TOTAL || !(*start = aligned_alloc(PAGE, whole))) return OUT_OF_MEMORY;
    used += sizes[*start] = whole;
    return SUCCESS;
}

static int release(void* start) {
    std::lock_guard<std::mutex> hold(lock);
    auto found = sizes.find(start);
    if (found == sizes.end()) return INVALID_VALUE;
    used -= found->second;
    sizes.erase(found);
    free(start);
    return SUCCESS;
}

// Whether all of these bytes are the GPU's, or pinned: a copy that leaves them is the backend's mistake.
static bool is_ours(Address start, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    auto after = sizes.upper_bound((void*)start);
    if (after == sizes.begin()) return false;
    --after;
    return start + bytes <= (Address)after->first + after->second;
}

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) {
    *version = chosen("PLAYED_VERSION", 13000);
    return SUCCESS;
}
int cuGetErrorName(int, const char** name) {
    *name = "an error of the host's driver";
    return SUCCESS;
}
int cuGetErrorString(int, const char** text) {
    *text = "see driver.cpp";
    return SUCCESS;
}

int cuDeviceGetCount(int* count) {
    *count = chosen("PLAYED_GPUS", 1);
    return SUCCESS;
}
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : NO_DEVICE;
}
int cuDeviceGetName(char* name, int bytes, int) {
    snprintf(name, bytes, "the host's processor");
    return SUCCESS;
}
int cuDeviceGetPCIBusId(char*, int, int) { return NOT_FOUND; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case MULTIPROCESSOR_COUNT: *value = 132; return SUCCESS;
        case COMPUTE_CAPABILITY_MAJOR: *value = 9; return SUCCESS;
        case COMPUTE_CAPABILITY_MINOR: case MEMORY_POOLS_SUPPORTED: *value = 0; return SUCCESS;
        default: return INVALID_VALUE;
    }
}

int cuDevicePrimaryCtxRetain(void** primary, int) {
    *primary = &context;
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void* one) {
    current = one;
    return SUCCESS;
}
int cuCtxGetCurrent(void** one) {
    *one = current;
    return SUCCESS;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> hold(lock);
    *total = TOTAL, *free = TOTAL - used;
    return SUCCESS;
}

int cuMemAlloc_v2(Address* start, size_t bytes) { return allocate((void**)start, bytes); }
int cuMemFree_v2(Address start) { return release((void*)start); }
int cuMemHostAlloc(void** start, size_t bytes, unsigned) { return allocate(start, bytes); }
int cuMemFreeHost(void* start) { return release(start); }
int cuMemHostGetDevicePointer_v2(Address* address, void* start, unsigned) {
    *address = (Address)start;
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    if (!is_ours(to, bytes)) return INVALID_VALUE;
    memcpy((void*)to, from, bytes);
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    if (!is_ours(from, bytes)) return INVALID_VALUE;
    memcpy(to, (void*)from, bytes);
    return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
    if (!is_ours(from, bytes) || !is_ours(to, bytes)) return INVALID_VALUE;
    memmove((void*)to, (void*)from, bytes);
    return SUCCESS;
}
int cuMemsetD8Async(Address to, unsigned char byte, size_t bytes, void*) {
    if (!is_ours(to, bytes)) return INVALID_VALUE;
    memset((void*)to, byte, bytes);
    return SUCCESS;
}

int cuStreamCreate(void** stream, unsigned) {
    *stream = new char;
    return SUCCESS;
}
int cuStreamDestroy_v2(void* stream) {
    delete (char*)stream;
    return SUCCESS;
}
int cuStreamSynchronize(void*) { return SUCCESS; }
int cuStreamQuery(void*) { return SUCCESS; }
int cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }

int cuEventCreate(Event** event, unsigned) {
    *event = new Event{};
    return SUCCESS;
}
int cuEventDestroy_v2(Event* event) {
    delete event;
    return SUCCESS;
}
int cuEventRecord(Event* event, void*) {
    event->at = Clock::now();
    return SUCCESS;
}
int cuEventSynchronize(Event*) { return SUCCESS; }
int cuEventQuery(Event*) { return SUCCESS; }
int cuEventElapsedTime_v2(float* ms, Event* start, Event* end) {
    *ms = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    return SUCCESS;
}

int cuModuleLoadData(void** module, const void* image) {
    uint64_t bytes;
    memcpy(&bytes, image, sizeof bytes);
    const char* code = (const char*)image + sizeof bytes;
    // PTX begins with a letter or a comment, hence with a number that is no length.
    if (bytes > (1ull << 32) || memcmp(code, "\177ELF", 4) != 0) return INVALID_IMAGE;
    int file = memfd_create("kernels", 0);
    if (file < 0) return OUT_OF_MEMORY;
    for (uint64_t done = 0; done < bytes;) {
        ssize_t written = write(file, code + done, bytes - done);
        if (written < 0) return OUT_OF_MEMORY;
        done += written;
    }
    std::string path = "/proc/self/fd/" + std::to_string(file);
    *module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "kernels do not load: %s\n", dlerror());
    // Kept open: a number that is used again would be taken for the same library.
    return *module ? SUCCESS : INVALID_IMAGE;
}
// Whoever starts a kernel of it afterwards jumps to nowhere.
int cuModuleUnload(void* module) { return dlclose(module) == 0 ? SUCCESS : INVALID_VALUE; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
    *function = dlsym(module, ("start_" + std::string(name)).c_str());
    return *function ? SUCCESS : NOT_FOUND;
}
int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned, void*,
                   void** parameters, void**) {
    ((Start)function)(blocks, threads, parameters[0]);
    return SUCCESS;
}
}
