// AES-128 with one table of 256 words, SubBytes and MixColumns of row 0. The other rows' tables are its rotations.
// Every lane of a warp has a copy of the table in a bank of its own. So no two accesses collide, whatever the secret
// index, and times tell nothing (after Tezcan, IEEE Access 2021). The state is four little-endian columns.

struct AesTable {
    u32 word[256 * WARP];
};

// Fills the block's copies; all threads take part.
__device__ inline void aes_fill(AesTable& table) {
    for (u32 i = threadIdx.x; i < 256 * WARP; i += blockDim.x) table.word[i] = AES_T0[i / WARP];
    __syncthreads();
}

// The entry for byte `byte` of `column`.
template <int BYTE>
__device__ inline u32 aes_entry(const AesTable& table, u32 column) {
    constexpr int AT = 8 * BYTE - 7;
    u32 offset = AT < 0 ? column << (AT < 0 ? -AT : 0) : column >> (AT < 0 ? 0 : AT);
    offset = (offset & (255u << 7)) | lane() * 4;
    return *reinterpret_cast<const u32*>(reinterpret_cast<const char*>(table.word) + offset);
}

template <int BYTES>
__device__ inline u32 rotate_up(u32 word) {
    return __byte_perm(word, word, BYTES == 1 ? 0x2103 : BYTES == 2 ? 0x1032 : 0x0321);
}

__device__ inline u32 aes_column(const AesTable& table, u32 a, u32 b, u32 c, u32 d, u32 key) {
    return aes_entry<0>(table, a) ^ rotate_up<1>(aes_entry<1>(table, b)) ^ rotate_up<2>(aes_entry<2>(table, c)) ^
           rotate_up<3>(aes_entry<3>(table, d)) ^ key;
}

// Byte 1 and byte 2 of an entry are the S-box's value.
__device__ inline u32 aes_last_column(const AesTable& table, u32 a, u32 b, u32 c, u32 d, u32 key) {
    u32 low = __byte_perm(aes_entry<0>(table, a), aes_entry<1>(table, b), 0x0051);
    u32 high = __byte_perm(aes_entry<2>(table, c), aes_entry<3>(table, d), 0x0051);
    return __byte_perm(low, high, 0x5410) ^ key;
}

// Encrypts N blocks at once: the more, the less one waits for the table. `keys` are ROUND_KEYS words. Rounds are
// unrolled for single blocks only: for several it is no faster, and takes the compiler three times as long.
template <int N, typename Keys>
__device__ inline void aes_encrypt(const AesTable& table, const Keys& keys, uint4 (&block)[N]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        block[n].x ^= keys[0], block[n].y ^= keys[1], block[n].z ^= keys[2], block[n].w ^= keys[3];
    }
#pragma unroll(N == 1 ? 3 : 1)
    for (int round = 1; round < 10; round++) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint4 s = block[n];
            block[n].x = aes_column(table, s.x, s.y, s.z, s.w, keys[4 * round]);
            block[n].y = aes_column(table, s.y, s.z, s.w, s.x, keys[4 * round + 1]);
            block[n].z = aes_column(table, s.z, s.w, s.x, s.y, keys[4 * round + 2]);
            block[n].w = aes_column(table, s.w, s.x, s.y, s.z, keys[4 * round + 3]);
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
        uint4 s = block[n];
        block[n].x = aes_last_column(table, s.x, s.y, s.z, s.w, keys[40]);
        block[n].y = aes_last_column(table, s.y, s.z, s.w, s.x, keys[41]);
        block[n].z = aes_last_column(table, s.z, s.w, s.x, s.y, keys[42]);
        block[n].w = aes_last_column(table, s.w, s.x, s.y, s.z, keys[43]);
    }
}

__device__ inline uint4 operator^(uint4 a, uint4 b) { return make_uint4(a.x ^ b.x, a.y ^ b.y, a.z ^ b.z, a.w ^ b.w); }

// `b` where `mask` is all ones, zero where it is zero.
__device__ inline uint4 operator&(uint4 b, u32 mask) {
    return make_uint4(b.x & mask, b.y & mask, b.z & mask, b.w & mask);
}

// AES(x) xor x.
template <int N>
__device__ inline void aes_feed_forward(const AesTable& table, const u32 (&keys)[ROUND_KEYS], uint4 (&x)[N]) {
    uint4 plain[N];
#pragma unroll
    for (int n = 0; n < N; n++) plain[n] = x[n];
    aes_encrypt(table, keys, x);
#pragma unroll
    for (int n = 0; n < N; n++) x[n] = x[n] ^ plain[n];
}

// The cipher of a tile's trees. Its round keys are public and are read from the job. The kernel's parameter is in
// constant memory, which all lanes read at one place at once.
struct TreeCipher {
    const AesTable& table;
    const Job& job;

    // Extends nodes.
    template <int N>
    __device__ void nodes(uint4 (&x)[N]) const {
        aes_feed_forward(table, job.node_keys, x);
    }

    // Turns last nodes into leaves.
    template <int N>
    __device__ void leaves(uint4 (&x)[N]) const {
        aes_feed_forward(table, job.leaf_keys, x);
    }
};
