// What all kernels share: the job, and reading and writing the layouts of keys and messages. The constants come from
// the header that src/header.rs writes. How a message is written, and said to be whole, is in message.cuh.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32
#define ALL_LANES 0xFFFFFFFFu
#define WIRE_MASK ((1ULL << WIRE_BITS) - 1)
// Bytes of a packed ring element.
#define PACKED (WIRE_BITS / 8)
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

// As `Completion` in src/completion.rs, in the host's memory.
struct Completion {
    volatile u64 start_ns;
    volatile u64 end_ns;
    volatile u64 exchanges;
};

// As `Job` in src/layout.rs.
struct Job {
    u32 elems;
    u32 plane_bytes;
    u32 party;
    u32 seeded;
    u32 exchange;
    u32 bits;
    u8* key[2][FIELDS];
    u8* dealer[FIELDS];
    u8* taken[2];
    u8* made[2];
    u8* wrap;
    const u8* tops;
    u64 kept;
    u32 node_keys[ROUND_KEYS];
    u32 leaf_keys[ROUND_KEYS];
    const u64* input;
    u64* state[STATES];
    u8* out[SEGMENTS];
    u8* sent[SEGMENTS];
    const u8* mine[SEGMENTS];
    const u8* theirs[SEGMENTS];
    u32* ended;
    Completion* completion;
};
static_assert(sizeof(Job) == JOB_BYTES, "the structure of src/layout.rs");

// One thread's element. All lanes of a warp stay together to the end, since they pack messages together. In the kernel
// of an exchange all threads of a block do. Threads beyond the last element work on the last one, and their results are
// dropped.
struct Element {
    u32 index;
    bool live;

    __device__ explicit Element(const Job& job) {
        u32 thread = blockIdx.x * THREADS + threadIdx.x;
        live = thread < job.elems;
        index = live ? thread : job.elems - 1;
        first = thread / WARP * WARP;
    }

    // The first element of the warp.
    u32 first;
};

__device__ inline u32 lane() { return threadIdx.x % WARP; }

// All ones if bit `bit` of `word` is set.
__device__ inline u32 spread(u32 word, u32 bit) { return 0u - (word >> bit & 1); }

// Bit planes of a key: plane `plane` of element `e`.
__device__ inline u32 key_bit(const Job& job, const u8* field, u32 plane, u32 e) {
    return field[plane * job.plane_bytes + e / 8] >> (e % 8) & 1;
}

// Writes a plane of a key; bits beyond the last element are zero.
__device__ inline void put_key_bit(const Job& job, u8* field, u32 plane, Element e, u32 bit) {
    u32 bits = __ballot_sync(ALL_LANES, e.live && (bit & 1));
    u32 at = e.first / 8 + lane();
    if (lane() < 4 && at < job.plane_bytes) field[plane * job.plane_bytes + at] = bits >> (8 * lane());
}

// Message segments of one bit. They start at a multiple of 16 bytes and have room up to the next.
__device__ inline u32 message_bit(const u8* segment, u32 e) { return segment[e / 8] >> (e % 8) & 1; }

__device__ inline u32 opened_bit(const Job& job, u32 segment, u32 e) {
    return message_bit(job.mine[segment], e) ^ message_bit(job.theirs[segment], e);
}

// Message segments of W bits, packed from the lowest bit.
template <int W>
__device__ inline u64 packed(const u8* segment, u32 e) {
    const u32* words = reinterpret_cast<const u32*>(segment);
    u32 at = e * W / 32, shift = e * W % 32;
    u64 value = words[at] >> shift;
    if (shift + W > 32) value |= (u64)words[at + 1] << (32 - shift);
    if (W > 33 && shift + W > 64) value |= (u64)words[at + 2] << (64 - shift);
    return value & (~0ULL >> (64 - W));
}

template <int W>
__device__ inline u64 opened(const Job& job, u32 segment, u32 e) {
    return (packed<W>(job.mine[segment], e) + packed<W>(job.theirs[segment], e)) & (~0ULL >> (64 - W));
}

// BYTES bytes of one element, in 32-bit words. Rows are read and written whole: which of their bits matter is a secret.
template <int BYTES>
struct Row {
    static constexpr int WORDS = (BYTES + 3) / 4;
    u32 word[WORDS];

    __device__ explicit Row(const u8* field, u32 e) {
        const u8* from = field + (u64)e * BYTES;
        if constexpr (BYTES % 16 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i += 4) {
                uint4 four = *reinterpret_cast<const uint4*>(from + 4 * i);
                word[i] = four.x, word[i + 1] = four.y, word[i + 2] = four.z, word[i + 3] = four.w;
            }
        } else if constexpr (BYTES % 8 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i += 2) {
                uint2 two = *reinterpret_cast<const uint2*>(from + 4 * i);
                word[i] = two.x, word[i + 1] = two.y;
            }
        } else if constexpr (BYTES % 4 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i++) word[i] = *reinterpret_cast<const u32*>(from + 4 * i);
        } else if constexpr (BYTES % 2 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i++) {
                word[i] = *reinterpret_cast<const u16*>(from + 4 * i);
                if (4 * i + 2 < BYTES) word[i] |= (u32)*reinterpret_cast<const u16*>(from + 4 * i + 2) << 16;
            }
        } else {
            static_assert(BYTES == 1, "rows have one byte or an even number");
            word[0] = *from;
        }
    }

    __device__ void store(u8* field, u32 e) const {
        u8* to = field + (u64)e * BYTES;
        if constexpr (BYTES % 16 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i += 4) {
                *reinterpret_cast<uint4*>(to + 4 * i) = make_uint4(word[i], word[i + 1], word[i + 2], word[i + 3]);
            }
        } else if constexpr (BYTES % 8 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i += 2) *reinterpret_cast<uint2*>(to + 4 * i) = make_uint2(word[i], word[i + 1]);
        } else if constexpr (BYTES % 4 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i++) *reinterpret_cast<u32*>(to + 4 * i) = word[i];
        } else if constexpr (BYTES % 2 == 0) {
#pragma unroll
            for (int i = 0; i < WORDS; i++) {
                *reinterpret_cast<u16*>(to + 4 * i) = word[i];
                if (4 * i + 2 < BYTES) *reinterpret_cast<u16*>(to + 4 * i + 2) = word[i] >> 16;
            }
        } else {
            *to = word[0];
        }
    }

    // Packed ring element `i`.
    __device__ u64 packed_element(int i) const {
        int at = 3 * i / 2;
        u64 low = word[at], high = 3 * i % 2 ? word[at + 1] : (u32)(u16)word[at + 1];
        return 3 * i % 2 ? low >> 16 | high << 16 : low | high << 32;
    }

    __device__ void put_packed_element(int i, u64 value) {
        int at = 3 * i / 2;
        if (3 * i % 2) {
            word[at] = (word[at] & 0xFFFF) | (u32)value << 16;
            word[at + 1] = value >> 16;
        } else {
            word[at] = value;
            word[at + 1] = (word[at + 1] & 0xFFFF0000) | (u32)(u16)(value >> 32);
        }
    }

    // Ring element `i` in a whole word of 64 bits.
    __device__ u64 element(int i) const { return (u64)word[2 * i + 1] << 32 | word[2 * i]; }

    __device__ void put_element(int i, u64 value) {
        word[2 * i] = value;
        word[2 * i + 1] = value >> 32;
    }
};

// Packed ring element `e` of a field.
__device__ inline u64 packed_at(const u8* field, u32 e) { return Row<PACKED>(field, e).packed_element(0); }

// The mask of a wire's element, from both parties' shares.
__device__ inline u64 wire_mask(u8* const (&shares)[2], u32 e) {
    return (packed_at(shares[0], e) + packed_at(shares[1], e)) & WIRE_MASK;
}

// Both parties' own planes, added.
__device__ inline u32 own_bit(const Job& job, u32 field, u32 plane, u32 e) {
    return key_bit(job, job.key[0][field], plane, e) ^ key_bit(job, job.key[1][field], plane, e);
}

// The share of a shared field that the dealer turns from the seeded side's into the explicit side's.
__device__ inline u8* explicit_field(const Job& job, u32 field) { return job.key[1 - job.seeded][field]; }

// Ones in the places below `end` of word `word` of a vector; `end` may lie outside the word.
__device__ inline u32 ones_below(int end, int word) {
    int here = end - 32 * word;
    return here <= 0 ? 0u : here >= 32 ? ~0u : (1u << here) - 1;
}
