// The kernels of `suf`; suf_parts.cuh describes what stands outside.

KERNEL suf_deal(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    u64 r_in = wire_mask(job.taken, e.index);
    u32 top = r_in >> (DOMAIN_BITS - 1 + GRID) & 1, by_p0 = 0;
    u64 masks = 0;
#pragma unroll 1
    for (int i = 0; i < COMPARISONS; i++) {
        // Comparisons come out of the tree without the top bit of the mask: it joins the bit's mask here.
        u32 mask = own_bit(job, F_COMPARISON_MASKS, i, e.index) ^ (BELOW >> i & 1 ? top : 0);
        masks |= (u64)mask << i;
    }
#if PIECES
    put_shared_bit(job, F_TOP_BIT, 0, e, top);
#endif
#if HAS_TREE
    by_p0 = deal_tree<HalfTree, TREE_LEVELS>(cipher, e, load_root(job.key[0][F_ROOT], e.index, 0),
                                             load_root(job.key[1][F_ROOT], e.index, 1), r_in >> GRID & TREE_MASK,
                                             job.key[0][F_SEED_CW], job.key[0][F_LEAF_CW], [](u32, u32) {});
#endif
#if HAS_LOW_TREE
    deal_tree<HalfTree, LOW_LEVELS>(cipher, e, load_root(job.key[0][F_LOW_ROOT], e.index, 0),
                                    load_root(job.key[1][F_LOW_ROOT], e.index, 1), r_in & LOW_MASK, job.key[0][F_LOW_SEED_CW],
                                    job.key[0][F_LOW_LEAF_CW], [](u32, u32) {});
#endif
    u64 omegas = deal_helpers(job, e, masks);
    if (e.live) deal_elements(job, e.index, r_in, by_p0, omegas);
}

// Shares of 1[alpha < point], as bits, for COUNT points; point(i) is the i-th. The point 2^bits is given as 0: a tree
// has no such point, and every alpha is below it. Party 1 holds that 1.
template <int LEVELS, int COUNT, typename Point>
__device__ inline u64 compare(const TreeCipher& cipher, const Corrections<LEVELS>& cw, uint4 fork, u32 fork_passed,
                              u32 shared, u32 party, Point point) {
    u64 bits = 0;
#pragma unroll 1
    for (int first = 0; first < COUNT; first += WALKS) {
        uint4 node[WALKS];
        u32 passed[WALKS];
        u64 points[WALKS];
#pragma unroll
        for (int i = 0; i < WALKS; i++) {
            node[i] = fork, passed[i] = fork_passed;
            points[i] = point(min(first + i, COUNT - 1));
        }
        walk<HalfTree, LEVELS, WALKS>(cipher, cw, node, passed, points, shared, LEVELS);
        cw.template leaves<HalfTree, WALKS>(cipher, node);
#pragma unroll
        for (int i = 0; i < WALKS; i++) {
            u64 bit = (passed[i] ^ parity_below(node[i], points[i]) ^ (party == 1 && points[i] == 0)) & 1;
            if (first + i < COUNT) bits |= bit << (first + i);
        }
    }
    return bits;
}

#if HAS_TREE
// Shares of 1[t < T] xor the top bit of the rounded mask, as bits, for every threshold T; and the table's sums.
__device__ inline u64 read_tree(const TreeCipher& cipher, const Job& job, u32 e, Sums& sums) {
    u64 v = job.input[e] >> GRID & ((1ULL << DOMAIN_BITS) - 1);
    Corrections<TREE_LEVELS> cw = {job.key[0][F_SEED_CW], job.key[0][F_LEAF_CW], nullptr, nullptr, 0, e};
    uint4 fork[1] = {load_root(job.key[0][F_ROOT], e, job.party)};
    u32 passed[1] = {0};
    auto point = [&](int i) { return (v - THRESHOLD[i] + 1) & TREE_MASK; };
    u64 bits = 0;
#if HAS_TABLE && WHOLE_TREE
    sums = read_whole<HalfTree, TREE_LEVELS, WINDOW_PLANES>(cipher, cw, fork[0], v & TREE_MASK, WINDOW);
#endif
#if THRESHOLDS > 0
    u64 start[1] = {point(0)}, apart = 0;
#pragma unroll 1
    for (int i = 1; i < THRESHOLDS; i++) apart |= start[0] ^ point(i);
#if HAS_TABLE && !WHOLE_TREE
    Range range(point(WINDOW_THRESHOLD));
    apart |= (start[0] ^ range.start) | range.apart();
    u32 shared = shared_levels(TOP, LEAF_BITS + WHOLE, apart);
#else
    u32 shared = shared_levels(TREE_LEVELS, LEAF_BITS, apart);
#endif
    walk<HalfTree, TREE_LEVELS, 1>(cipher, cw, fork, passed, start, 0, shared);
    bits = compare<TREE_LEVELS, THRESHOLDS>(cipher, cw, fork[0], passed[0], shared, job.party, point);
#if HAS_TABLE && !WHOLE_TREE
    read_window(cipher, cw, fork[0], passed[0], shared, range, sums);
#endif
#pragma unroll 1
    for (int i = 0; i < THRESHOLDS; i++) {
        // Let u = v - T. Then t - T = u - rho is negative when msb(u) xor msb(rho) xor borrow. On the low bits the
        // borrow 1[u < rho] is not 1[rho < u + 1].
        if (job.party == 0) bits ^= (~((v - THRESHOLD[i]) >> (DOMAIN_BITS - 1)) & 1) << i;
    }
#endif
    return bits;
}
#endif

#if HAS_LOW_TREE
// Shares of 1[(x mod 2^f) < bound], as bits, for every bound. With u = x_hat mod 2^f, the bit is 1 if the mask lies in
// the cyclic interval (u - bound, u].
__device__ inline u64 read_low_tree(const TreeCipher& cipher, const Job& job, u32 e) {
    u64 x_hat = job.input[e];
    Corrections<LOW_LEVELS> cw = {job.key[0][F_LOW_SEED_CW], job.key[0][F_LOW_LEAF_CW], nullptr, nullptr, 0, e};
    uint4 root = load_root(job.key[0][F_LOW_ROOT], e, job.party);
    // The first point is that of the bound 0.
    auto point = [&](int i) { return (x_hat - (i == 0 ? 0 : BOUND[i == 0 ? 0 : i - 1]) + 1) & LOW_MASK; };
    u64 bits = compare<LOW_LEVELS, BOUNDS + 1>(cipher, cw, root, 0, 0, job.party, point);
    bits = bits >> 1 ^ (0 - (bits & 1));
#pragma unroll 1
    for (int i = 0; i < BOUNDS; i++) {
        if (job.party == 0) bits ^= (u64)((x_hat & LOW_MASK) < BOUND[i]) << i;
    }
    return bits;
}
#endif

#if COMPARISONS || HAS_TABLE || PIECES
KERNEL suf_lookups(const __grid_constant__ Job job) {
    begun(job);
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    Sums sums;
    u64 below = 0, low = 0;
#if HAS_TREE
    below = read_tree(cipher, job, e.index, sums);
#endif
#if HAS_LOW_TREE
    low = read_low_tree(cipher, job, e.index);
#endif
#pragma unroll 1
    for (int i = 0; i < COMPARISONS; i++) {
        u32 share = (BELOW >> i & 1 ? below : low) >> COMPARISON[i] & 1;
        put_message_bit(i, e, share ^ key_bit(job, job.key[0][F_COMPARISON_MASKS], i, e.index));
    }
#if HAS_TABLE
    u64 entry = entries(sums, WINDOW_LEAST);
    // P1's share is negated: where the leaves agree, the sums cancel.
    if (job.party == 1) entry = 0 - entry;
    put_packed<ENTRY_BITS>(job, G_ENTRY, e, entry + table_mask(job.key[0][F_TABLE_MASK], e.index));
#endif
#if PIECES
    u32 top = key_bit(job, job.key[0][F_TOP_BIT], 0, e.index), before = 0, count = 0;
    u64 active[DEGREE + 1] = {};
#pragma unroll 1
    for (int piece = 0; piece < PIECES; piece++) {
        // 1[t < cut] at every cut; 0 before the first, 1 after the last.
        u32 end = piece + 1 < PIECES ? (u32)(below >> CUT[piece] & 1) ^ top : job.party == 0;
        u32 hot = before ^ end;
        before = end;
        count += hot;
#pragma unroll
        for (int j = 0; j <= DEGREE; j++) active[j] += hot * COEFFICIENT[piece * (DEGREE + 1) + j];
    }
    // XOR share of 1[n_0 = n_1 + 1] for counts of set bits that differ by one.
    u32 sign = (job.party == 0 ? count : 0) ^ count >> 1;
    put_message_bit(G_SIGN, e, sign ^ key_bit(job, job.key[0][F_SIGN_MASK], 0, e.index));
#pragma unroll
    for (int j = 0; j <= DEGREE; j++) {
        u64 share = job.party == 0 ? active[j] : 0 - active[j];
        u64 mask = packed_at(job.key[0][F_COEFFICIENT_MASKS], e.index * (DEGREE + 1) + j);
        put_packed<WIRE_BITS>(job, G_SIGN + 1 + j, e, share + mask);
    }
#endif
    finished(job);
}
#endif

// Opens the first exchange.
__device__ inline Opened open_lookups(const Job& job, u32 e) {
    Opened open = {};
#pragma unroll 1
    for (int i = 0; i < COMPARISONS; i++) open.comparisons |= (u64)opened_bit(job, i, e) << i;
#if HAS_TABLE
    open.entry = opened<ENTRY_BITS>(job, G_ENTRY, e);
#endif
#if PIECES
    open.sign = opened_bit(job, G_SIGN, e);
#pragma unroll
    for (int j = 0; j <= DEGREE; j++) open.coefficients[j] = opened<WIRE_BITS>(job, G_SIGN + 1 + j, e);
#endif
    return open;
}

#if HELPERS
KERNEL suf_helpers(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    Opened open = open_lookups(job, e.index);
    if (e.live) {
        job.state[S_COMPARISONS][e.index] = open.comparisons;
        job.state[S_ENTRY][e.index] = open.entry;
        job.state[S_SIGN][e.index] = open.sign;
#pragma unroll
        for (int j = 0; j <= DEGREE; j++) job.state[S_COEFFICIENTS + j][e.index] = open.coefficients[j];
    }
    helper_rows(job, e, open.comparisons);
    finished(job);
}
#endif

KERNEL suf_output(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u64 helpers = 0;
#if HELPERS
    Opened open;
    open.comparisons = job.state[S_COMPARISONS][e.index];
    open.entry = job.state[S_ENTRY][e.index];
    open.sign = job.state[S_SIGN][e.index];
#pragma unroll
    for (int j = 0; j <= DEGREE; j++) open.coefficients[j] = job.state[S_COEFFICIENTS + j][e.index];
#pragma unroll 1
    for (int i = 0; i < HELPERS; i++) helpers |= (u64)opened_bit(job, i, e.index) << i;
#else
    Opened open = open_lookups(job, e.index);
#endif
    put_packed<WIRE_BITS>(job, 0, e, output_share(job, e.index, open, helpers));
    finished(job);
}
