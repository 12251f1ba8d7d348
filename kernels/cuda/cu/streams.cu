// Expands the streams of a tile: AES-128 in counter mode, block i encrypts i xor the stream's nonce.

// As `Expansion` in src/layout.rs.
struct alignas(16) Expansion {
    u32 key[4];
    u32 nonce[4];
    uint4* to;
    u32 first_span;
    u32 blocks;
};

__device__ inline u32 substitute(const AesTable& table, u32 word) {
    return aes_last_column(table, word, word, word, word, 0);
}

struct Streams {
    const Expansion* table;
    u32 count;
    u32 spans;
};

struct FewStreams {
    Expansion table[FEW_STREAMS];
    u32 count;
    u32 spans;
};

__device__ inline void expand_all(const Expansion* __restrict__ table, u32 count, u32 spans) {
    __shared__ AesTable aes;
    __shared__ u32 keys[MAX_STREAMS][ROUND_KEYS];
    aes_fill(aes);
    // A lane for each stream: the expansion of one key is a chain of its own.
    if (threadIdx.x < count) {
        uint4 word = *reinterpret_cast<const uint4*>(table[threadIdx.x].key);
        uint4 nonce = *reinterpret_cast<const uint4*>(table[threadIdx.x].nonce);
        u32* out = keys[threadIdx.x];
        u32 constant = 1;
        // The first round adds its key to the block: the nonce is added there.
        out[0] = word.x ^ nonce.x, out[1] = word.y ^ nonce.y, out[2] = word.z ^ nonce.z, out[3] = word.w ^ nonce.w;
#pragma unroll 1
        for (u32 round = 1; round <= 10; round++) {
            word.x ^= substitute(aes, word.w >> 8 | word.w << 24) ^ constant;
            word.y ^= word.x, word.z ^= word.y, word.w ^= word.z;
            constant = round == 8 ? 0x1B : constant << 1;
            out[4 * round] = word.x, out[4 * round + 1] = word.y, out[4 * round + 2] = word.z, out[4 * round + 3] = word.w;
        }
    }
    __syncthreads();
    u32 stream = 0;
    for (u32 span = blockIdx.x; span < spans; span += gridDim.x) {
        while (stream + 1 < count && span >= table[stream + 1].first_span) stream++;
        u32 at = (span - table[stream].first_span) * STREAM_THREADS + threadIdx.x;
        uint4 block[1] = {make_uint4(at, 0, 0, 0)};
        aes_encrypt(aes, keys[stream], block);
        if (at < table[stream].blocks) table[stream].to[at] = block[0];
    }
}

extern "C" __global__ void __launch_bounds__(STREAM_THREADS) streams(const __grid_constant__ Streams job) {
    expand_all(job.table, job.count, job.spans);
}

// The same with the table in the parameter.
extern "C" __global__ void __launch_bounds__(STREAM_THREADS) few_streams(const __grid_constant__ FewStreams job) {
    expand_all(job.table, job.count, job.spans);
}
