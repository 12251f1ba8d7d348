// A block of threads as threads of the host, so that kernels run under a host's checkers. Such a checker tells two
// threads' accesses apart by the barriers between them, as NVIDIA's racecheck does. Include this before device.h.

#include <cstdio>
#include <pthread.h>
#include <thread>
#include <vector>

#define __shared__ static

// Warps of the largest block.
#define MOST_WARPS 32

struct Index {
    unsigned x;
};
static thread_local Index threadIdx;
static Index blockIdx{0}, blockDim{1}, gridDim{1};

static pthread_barrier_t block_barrier, warp_barrier[MOST_WARPS];

static inline void __syncthreads() { pthread_barrier_wait(&block_barrier); }
static inline void __syncwarp() { pthread_barrier_wait(&warp_barrier[threadIdx.x / 32]); }

// Runs `kernel` on one block.
template <typename Kernel>
static void launch(unsigned threads, Kernel kernel) {
    blockDim.x = threads;
    pthread_barrier_init(&block_barrier, nullptr, threads);
    for (unsigned warp = 0; warp < threads / 32; warp++) pthread_barrier_init(&warp_barrier[warp], nullptr, 32);
    std::vector<std::thread> all;
    for (unsigned thread = 0; thread < threads; thread++) {
        all.emplace_back([thread, &kernel] {
            threadIdx.x = thread;
            kernel();
        });
    }
    for (std::thread& one : all) one.join();
}
