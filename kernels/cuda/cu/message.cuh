// How the kernel of an exchange writes its message. It writes to the GPU's memory, where the next exchange reads it,
// and to the host's, where it is sent from. It also tells the host that the message is complete. A kernel starts with
// `begun` and ends with `finished`, which all threads of all blocks reach.

#define WARPS (THREADS / WARP)

// The GPU's clock.
#ifndef READ_CLOCK
#define READ_CLOCK(ns) asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory")
#endif

__device__ inline u64 nanoseconds() {
    u64 ns;
    READ_CLOCK(ns);
    return ns;
}

// Writes word `at` of a segment. Neighbouring threads write neighbouring words: over the bus they go in lines.
__device__ inline void put_word(const Job& job, u32 segment, u32 at, u32 word) {
    reinterpret_cast<u32*>(job.out[segment])[at] = word;
    reinterpret_cast<u32*>(job.sent[segment])[at] = word;
}

// The words of the block's warps in a segment of one bit, until `finished` writes them side by side.
__device__ inline u32* block_bits(u32 segment) {
    __shared__ u32 bits[SEGMENTS][WARPS];
    return bits[segment];
}

// Bits beyond the last element are zero.
__device__ inline void put_message_bit(u32 segment, Element e, u32 bit) {
    u32 bits = __ballot_sync(ALL_LANES, e.live && (bit & 1));
    if (lane() == 0) block_bits(segment)[threadIdx.x / WARP] = bits;
}

// A segment of W bits. A warp's values fill exactly W words, and bits beyond the last element are zero.
template <int W>
__device__ inline void put_packed(const Job& job, u32 segment, Element e, u64 value) {
    __shared__ u32 rows[WARPS * W];
    u32* row = rows + threadIdx.x / WARP * W;
    for (u32 i = lane(); i < W; i += WARP) row[i] = 0;
    __syncwarp();
    if (e.live) {
        value &= ~0ULL >> (64 - W);
        u32 at = lane() * W / 32, shift = lane() * W % 32;
        atomicOr(&row[at], (u32)(value << shift));
        if (shift + W > 32) atomicOr(&row[at + 1], (u32)(value >> (32 - shift)));
        if (W > 33 && shift + W > 64) atomicOr(&row[at + 2], (u32)(value >> (64 - shift)));
    }
    __syncthreads();
    u32 first = blockIdx.x * WARPS * W, end = (job.elems * W + 31) / 32;
    for (u32 i = threadIdx.x; i < WARPS * W && first + i < end; i += blockDim.x) put_word(job, segment, first + i, rows[i]);
    // The next segment of this width takes the same rows.
    __syncthreads();
}

// Notes when the kernel began: block 0 is among the first that run.
__device__ inline void begun(const Job& job) {
    if (blockIdx.x == 0 && threadIdx.x == 0) job.completion->start_ns = nanoseconds();
}

// Writes the segments of one bit, and has the block that comes last tell the host.
//
// The message is complete before the host sees the last word. The block's writes happen before the barrier, and the
// barrier before thread 0's fence. A fence covers all that happened before it, whichever thread wrote it, as in a
// barrier of a whole grid. The count orders every block's fence before that of the last block, whose fence stands
// before the word. All of them are fences of the system, hence of the host's memory too.
__device__ inline void finished(const Job& job) {
    if (job.bits != 0) {
        __syncthreads();
        for (u32 i = threadIdx.x; i < SEGMENTS * WARPS; i += blockDim.x) {
            u32 segment = i / WARPS, at = blockIdx.x * WARPS + i % WARPS;
            if ((job.bits >> segment & 1) && at < (job.elems + WARP - 1) / WARP) {
                put_word(job, segment, at, block_bits(segment)[i % WARPS]);
            }
        }
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    __threadfence_system();
    // The count goes back to zero by itself: a tile's kernels take turns, and all have as many blocks.
    if (atomicInc(job.ended, gridDim.x - 1) != gridDim.x - 1) return;
    job.completion->end_ns = nanoseconds();
    __threadfence_system();
    // Nothing of the kernel touches memory after this.
    job.completion->exchanges = job.exchange + 1;
}
