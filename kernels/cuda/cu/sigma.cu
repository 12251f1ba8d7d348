// `sigma`: see kernels/gate, sigma.rs. Defined outside: SHIFT, T_BITS, the fields F_.., and what tree_lookup.cuh wants
// with the clipped |t| as the index.

#define COMPARE_BITS (T_BITS - 1)
#define COMPARE_LEVELS (COMPARE_BITS - LEAF_BITS)
#define CLIP_MASK ((1ULL << INDEX_BITS) - 1)
// Bytes of a number in the table of the four rows.
#define MUX_BYTES (INDEX_BITS <= 8 ? 1 : 2)

// What an evaluation keeps, besides the look-up.
#define S_T_HAT 2
#define S_POSITIVE 3

// What the dealer alone draws: r_t in the low bits of a word, r_idx from bit 32 on.
__device__ inline u64 sigma_masks(const Job& job, u32 e) {
    return reinterpret_cast<const u64*>(job.dealer[F_TRUNCATION])[e];
}

__device__ inline u64 mask_of_t(u64 masks) { return masks & ((1ULL << T_BITS) - 1); }

__device__ inline u64 mask_of_index(u64 masks) { return masks >> 32 & CLIP_MASK; }

KERNEL sigma_deal_comparison(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    u64 alpha = ~sigma_masks(job, e.index) & ((1ULL << COMPARE_BITS) - 1);
    deal_tree<Bgi, COMPARE_LEVELS>(
        cipher, e, load_root(job.key[0][F_COMPARE_ROOT], e.index, 0), load_root(job.key[1][F_COMPARE_ROOT], e.index, 1),
        alpha, job.key[0][F_COMPARE_SEED_CW], job.key[0][F_COMPARE_LEAF_CW],
        [&](u32 level, u32 bit) { put_key_bit(job, job.key[0][F_COMPARE_RIGHT_BITS], level, e, bit); });
}

KERNEL sigma_deal_lookup(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    deal_lookup_tree(cipher, job, e, mask_of_index(sigma_masks(job, e.index)));
}

// All that needs no tree.
KERNEL sigma_deal_elements(const __grid_constant__ Job job) {
    Element element(job);
    if (!element.live) return;
    u32 e = element.index;
    u64 r_in = wire_mask(job.taken, e), r_out = wire_mask(job.made, e);
    u64 masks = sigma_masks(job, e), r_t = mask_of_t(masks), r_index = mask_of_index(masks);

    // Bit j is 1[j < r]: all bits from r on are 0.
    Row<8> low(explicit_field(job, F_LOW_TABLE), e);
    low.put_element(0, low.element(0) ^ ((1ULL << (r_in & ((1u << SHIFT) - 1))) - 1));
    low.store(explicit_field(job, F_LOW_TABLE), e);
    u64 truncation[3] = {r_in >> SHIFT, own_bit(job, F_LOW_MASK, 0, e), r_t};
    subtract_elements(job, F_TRUNCATION, e, truncation);

    // The masks of the opened t >= 0, with the highest bit of r_t, and |t| < 2^c.
    u32 positive_mask = own_bit(job, F_BIT_MASKS, 0, e) ^ (u32)(r_t >> COMPARE_BITS);
    u32 inside_mask = own_bit(job, F_BIT_MASKS, 1, e);
    Row<8 * MUX_BYTES> mux(explicit_field(job, F_MUX), e);
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
        u64 positive = (row & 1) ^ positive_mask, inside = row >> 1 ^ inside_mask;
        u64 factor = inside * (2 * positive - 1);
        u64 constant = (1 - inside) * CLIP_MASK + r_index - factor * r_t;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 at = 8 * MUX_BYTES * (4 * half + row), shift = at % 32;
            constexpr u32 NUMBER = (1u << (8 * MUX_BYTES)) - 1;
            u32 share = mux.word[at / 32] >> shift & NUMBER;
            u32 difference = ((u32)(half ? constant : factor) - share) & (u32)CLIP_MASK;
            mux.word[at / 32] = (mux.word[at / 32] & ~(NUMBER << shift)) | difference << shift;
        }
    }
    mux.store(explicit_field(job, F_MUX), e);

    deal_lookup_select(job, e, 0);

    // An opened bit of h stands for 1[t >= 0] = h xor mask.
    u64 factor_0 = positive_mask, factor_1 = positive_mask ^ 1;
    u64 relu[5] = {factor_0, factor_1, 0 - factor_0 * r_in, 0 - factor_1 * r_in, r_out};
    subtract_elements(job, F_RELU, e, relu);
}

KERNEL sigma_low(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u64 table = reinterpret_cast<const u64*>(job.key[0][F_LOW_TABLE])[e.index];
    u32 share = table >> (job.input[e.index] & ((1u << SHIFT) - 1));
    put_message_bit(0, e, share ^ key_bit(job, job.key[0][F_LOW_MASK], 0, e.index));
    finished(job);
}

KERNEL sigma_truncation(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u64 low = opened_bit(job, 0, e.index);
    u64 r_high = key_element(job, F_TRUNCATION, e.index, 3, 0);
    u64 rho = key_element(job, F_TRUNCATION, e.index, 3, 1);
    u64 r_t = key_element(job, F_TRUNCATION, e.index, 3, 2);
    // t = (x_hat >> 6) - (r >> 6) - w under r_t, with w = w_hat + (1 - 2 w_hat) rho.
    u64 visible = job.party == 0 ? (job.input[e.index] >> SHIFT) - low : 0;
    put_packed<T_BITS>(job, 0, e, visible - r_high - (1 - 2 * low) * rho + r_t);
    finished(job);
}

KERNEL sigma_bits(const __grid_constant__ Job job) {
    begun(job);
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    u64 t_hat = opened<T_BITS>(job, 0, e.index);
    if (e.live) job.state[S_T_HAT][e.index] = t_hat;
    // t itself, and what is negative exactly where t < 1 - 2^c, and where t < 2^c.
    u64 moved[3] = {t_hat, t_hat + CLIP_MASK, t_hat - (CLIP_MASK + 1)};
    u64 points[3];
    // Their highest bits, which P0 takes: of the numbers nothing else is needed after the walks.
    u32 tops = 0;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        points[i] = ~moved[i] & ((1ULL << COMPARE_BITS) - 1);
        tops |= (u32)(moved[i] >> COMPARE_BITS & 1) << i;
    }
    if (job.party != 0) tops = 0;
    u32 shared = shared_levels(COMPARE_LEVELS, LEAF_BITS, (points[0] ^ points[1]) | (points[0] ^ points[2]));

    Corrections<COMPARE_LEVELS> cw = {job.key[0][F_COMPARE_SEED_CW],    job.key[0][F_COMPARE_LEAF_CW], nullptr,
                                      job.key[0][F_COMPARE_RIGHT_BITS], job.plane_bytes,               e.index};
    uint4 first[1] = {load_root(job.key[0][F_COMPARE_ROOT], e.index, job.party)};
    u32 before[1] = {0};
    u64 point[1] = {points[0]};
    walk<Bgi, COMPARE_LEVELS, 1>(cipher, cw, first, before, point, 0, shared);
    uint4 node[3] = {first[0], first[0], first[0]};
    u32 passed[3] = {before[0], before[0], before[0]};
    walk<Bgi, COMPARE_LEVELS, 3>(cipher, cw, node, passed, points, shared, COMPARE_LEVELS);
    cw.template leaves<Bgi, 3>(cipher, node);

    // The sign is the sum of the number's highest bit, that of r_t, and the borrow. The mask includes the highest bit
    // of r_t. In the difference of two signs it cancels.
    u32 sign[3];
#pragma unroll
    for (int i = 0; i < 3; i++) sign[i] = passed[i] ^ parity_below(node[i], points[i]) ^ (tops >> i);
    u32 positive = sign[0] ^ (job.party == 0), inside = sign[1] ^ sign[2];
    put_message_bit(0, e, positive ^ key_bit(job, job.key[0][F_BIT_MASKS], 0, e.index));
    put_message_bit(1, e, inside ^ key_bit(job, job.key[0][F_BIT_MASKS], 1, e.index));
    finished(job);
}

KERNEL sigma_index(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 positive = opened_bit(job, 0, e.index), row = positive | opened_bit(job, 1, e.index) << 1;
    if (e.live) job.state[S_POSITIVE][e.index] = positive;
    auto number = [&](u32 at) -> u64 {
        u64 i = (u64)e.index * 8 + at;
        return MUX_BYTES == 1 ? job.key[0][F_MUX][i] : reinterpret_cast<const u16*>(job.key[0][F_MUX])[i];
    };
    put_packed<INDEX_BITS>(job, 0, e, number(row) * job.state[S_T_HAT][e.index] + number(4 + row));
    finished(job);
}

KERNEL sigma_sign(const __grid_constant__ Job job) {
    begun(job);
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    share_lookup_sign(cipher, job, e, opened<INDEX_BITS>(job, 0, e.index));
    finished(job);
}

KERNEL sigma_output(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 positive = job.state[S_POSITIVE][e.index];
    auto relu = [&](u32 i) { return key_element(job, F_RELU, e.index, 5, i); };
    u64 share = relu(positive) * job.input[e.index] + relu(2 + positive) + relu(4) - lookup_result(job, e.index);
    put_packed<WIRE_BITS>(job, 0, e, share);
    finished(job);
}
