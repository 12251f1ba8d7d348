// Table look-up by a share of a one-hot vector: see kernels/cpu, lookup.rs.

// What a party reads off its share of a vector.
struct Sums {
    // The sum of the entries' excesses over the least entry.
    u32 excess = 0;
    // Number of ones.
    u32 ones = 0;
};

// Adds word `i` of the rotated vector: place k of the rotated vector is place v + k of the vector. `planes` has PLANES
// planes of WORDS words.
template <int WORDS, int PLANES>
__device__ inline void read_word(Sums& sums, const u32* planes, int i, u32 rotated) {
    sums.ones += __popc(rotated);
#pragma unroll
    for (int plane = 0; plane < PLANES; plane++) {
        sums.excess += __popc(rotated & planes[plane * WORDS + i]) << plane;
    }
}

// The sum of the entries, modulo 2^64.
__device__ inline u64 entries(const Sums& sums, u64 least) { return sums.excess + least * sums.ones; }
