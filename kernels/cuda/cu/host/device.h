// What CUDA C++ has and C++ has not, so that kernels run on the host. Stands after threads.h or fibers.h, which say what a
// thread of a block is there: what __shared__ is, threadIdx, and the barriers.

#include <chrono>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __constant__ static const
#define __grid_constant__
#define __launch_bounds__(threads)

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// What the lanes of a warp tell each other.
__shared__ unsigned exchanged[MOST_WARPS][32];

static inline unsigned __ballot_sync(unsigned, bool bit) {
    unsigned* lanes = exchanged[threadIdx.x / 32];
    lanes[threadIdx.x % 32] = bit;
    __syncwarp();
    unsigned all = 0;
    for (int lane = 0; lane < 32; lane++) all |= lanes[lane] << lane;
    __syncwarp();
    return all;
}

static inline unsigned __shfl_xor_sync(unsigned, unsigned value, int apart) {
    unsigned* lanes = exchanged[threadIdx.x / 32];
    lanes[threadIdx.x % 32] = value;
    __syncwarp();
    unsigned other = lanes[threadIdx.x % 32 ^ apart];
    __syncwarp();
    return other;
}

static inline void atomicOr(unsigned* at, unsigned bits) { __atomic_fetch_or(at, bits, __ATOMIC_RELAXED); }
static inline unsigned atomicInc(unsigned* at, unsigned most) {
    unsigned old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(at, &old, old >= most ? 0 : old + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
// Whoever reads what the one block wrote has joined its threads.
static inline void __threadfence_system() {}
#define READ_CLOCK(ns) (ns = (unsigned long long)std::chrono::steady_clock::now().time_since_epoch().count())

static inline int __popc(unsigned word) { return __builtin_popcount(word); }
static inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __clzll(unsigned long long word) { return word ? __builtin_clzll(word) : 64; }

static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned places) {
    unsigned long long bytes = (unsigned long long)high << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> 8 * (places >> 4 * i & 7) & 255) << 8 * i;
    return result;
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31));
}

template <typename A, typename B>
static inline A min(A a, B b) {
    return a < (A)b ? a : (A)b;
}
