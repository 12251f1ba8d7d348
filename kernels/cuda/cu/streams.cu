// Expands the streams of a chunk's fields: AES-128 in counter mode, block i encrypts i.

// As `Stream` in src/layout.rs.
struct Stream {
    u32 key[4];
    uint4* to;
    u32 first_tile;
    u32 blocks;
};

__device__ inline u32 substitute(const AesTable& table, u32 word) {
    return aes_last_column(table, word, word, word, word, 0);
}

struct Streams {
    const Stream* table;
    u32 count;
    u32 tiles;
};

extern "C" __global__ void __launch_bounds__(STREAM_THREADS) streams(const __grid_constant__ Streams job) {
    __shared__ AesTable aes;
    __shared__ u32 keys[MAX_STREAMS][44];
    const Stream* __restrict__ table = job.table;
    aes_fill(aes);
    // A lane for each stream: the expansion of one key is a chain of its own.
    if (threadIdx.x < job.count) {
        uint4 word = *reinterpret_cast<const uint4*>(table[threadIdx.x].key);
        u32* out = keys[threadIdx.x];
        u32 constant = 1;
        out[0] = word.x, out[1] = word.y, out[2] = word.z, out[3] = word.w;
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
    for (u32 tile = blockIdx.x; tile < job.tiles; tile += gridDim.x) {
        while (stream + 1 < job.count && tile >= table[stream + 1].first_tile) stream++;
        u32 at = (tile - table[stream].first_tile) * STREAM_THREADS + threadIdx.x;
        uint4 block[1] = {make_uint4(at, 0, 0, 0)};
        aes_encrypt(aes, keys[stream], block);
        if (at < table[stream].blocks) table[stream].to[at] = block[0];
    }
}
