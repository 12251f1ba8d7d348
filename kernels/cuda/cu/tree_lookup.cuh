// The look-up by a DPF that `suf-lut` and `sigma` contain: see kernels/gate, lookup.rs. Defined outside: INDEX_BITS, the
// fields F_ROOT, F_SEED_CW, F_LEAF_CW, F_RIGHT_BITS, F_SIGN_MASK, F_SELECT, and the table LOOKUP.

#define LOOKUP_LEVELS (INDEX_BITS - LEAF_BITS)

// What an evaluation keeps.
#define S_ENTRY 0
#define S_SIGN 1

// Deals the tree, hot at the low bits of `mask`.
__device__ inline void deal_lookup_tree(const TreeCipher& cipher, const Job& job, Element e, u64 mask) {
    u64 alpha = mask & ((1u << INDEX_BITS) - 1);
    u32 right = 0;
    deal_tree<Bgi, LOOKUP_LEVELS>(cipher, e, load_root(job.key[0][F_ROOT], e.index, 0),
                                  load_root(job.key[1][F_ROOT], e.index, 1), alpha, job.key[0][F_SEED_CW],
                                  job.key[0][F_LEAF_CW],
                                  [&](u32 level, u32 bit) { right |= bit << level; });
    if (e.live) reinterpret_cast<u32*>(job.key[0][F_RIGHT_BITS])[e.index] = right;
}

// Turns the seeded side's shares of ring elements in whole words into the explicit side's.
template <int COUNT>
__device__ inline void subtract_elements(const Job& job, u32 field, u32 e, const u64 (&values)[COUNT]) {
    Row<8 * COUNT> row(explicit_field(job, field), e);
#pragma unroll
    for (int i = 0; i < COUNT; i++) row.put_element(i, (values[i] - row.element(i)) & WIRE_MASK);
    row.store(explicit_field(job, field), e);
}

// The select's ring elements: the result's shares add up to the table's entry and `offset`.
__device__ inline void deal_lookup_select(const Job& job, u32 e, u64 offset) {
    u64 mask = reinterpret_cast<const u64*>(job.dealer[F_SELECT])[e] & WIRE_MASK;
    // An opened sign bit of h stands for the sign 2 (h xor mask) - 1.
    u64 sign_mask = own_bit(job, F_SIGN_MASK, 0, e);
    u64 factor_0 = 2 * sign_mask - 1, factor_1 = 2 * (sign_mask ^ 1) - 1;
    u64 values[5] = {mask, factor_0, factor_1, offset - factor_0 * mask, offset - factor_1 * mask};
    subtract_elements(job, F_SELECT, e, values);
}

// Looks the table up at the opened index and shares the sign.
__device__ inline void share_lookup_sign(const TreeCipher& cipher, const Job& job, Element e, u32 index) {
    Corrections<LOOKUP_LEVELS> cw = {job.key[0][F_SEED_CW], job.key[0][F_LEAF_CW], job.key[0][F_RIGHT_BITS], nullptr, 0, e.index};
    uint4 root = load_root(job.key[0][F_ROOT], e.index, job.party);
    Sums sums = read_whole<Bgi, LOOKUP_LEVELS, LOOKUP_PLANES>(cipher, cw, root, index, LOOKUP);
    u64 entry = entries(sums, LOOKUP_LEAST);
    // P1's share is negated: where the leaves agree, the sums cancel.
    if (e.live) job.state[S_ENTRY][e.index] = job.party ? 0 - entry : entry;
    u32 sign = (job.party ? 0 : sums.ones) ^ sums.ones >> 1;
    put_message_bit(0, e, sign ^ key_bit(job, job.key[0][F_SIGN_MASK], 0, e.index));
}

__device__ inline u64 key_element(const Job& job, u32 field, u32 e, u32 count, u32 i) {
    return reinterpret_cast<const u64*>(job.key[0][field])[(u64)e * count + i];
}

// Opens the sign and shares V.
KERNEL lookup_value(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 sign = opened_bit(job, 0, e.index);
    if (e.live) job.state[S_SIGN][e.index] = sign;
    u64 share = job.state[S_ENTRY][e.index] + key_element(job, F_SELECT, e.index, 5, 0);
    put_packed<WIRE_BITS>(job, 0, e, share);
    finished(job);
}

// Opens V; this party's share of the result.
__device__ inline u64 lookup_result(const Job& job, u32 e) {
    u64 value = opened<WIRE_BITS>(job, 0, e);
    u32 sign = job.state[S_SIGN][e] & 1;
    return key_element(job, F_SELECT, e, 5, 1 + sign) * value + key_element(job, F_SELECT, e, 5, 3 + sign);
}
