// `dpf`: two rounds from one half-tree. See kernels/gate, dpf.rs. Defined outside: SHIFT, T_BITS, WINDOW_BITS (what is
// read from the tree), the fields F_.., the table WINDOW, and what line.cuh wants.

#define TREE_BITS (T_BITS - 1)
#define TREE_LEVELS (TREE_BITS - LEAF_BITS)
// log2 of the blocks of the window.
#define HEIGHT (WINDOW_BITS - LEAF_BITS)
// Levels that are expanded whole.
#define WHOLE (HEIGHT < 3 ? HEIGHT : 3)
#define SPAN (1 << WHOLE)
#define TOP (TREE_LEVELS - WHOLE)

KERNEL dpf_deal(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    Element e(job);
    u64 r_in = own_element(job, F_R_IN, e.index), r_out = own_element(job, F_R_OUT, e.index);
    u64 alpha = ~(r_in >> SHIFT) & ((1ULL << TREE_BITS) - 1);
    u64 by_p0 = deal_tree<HalfTree, TREE_LEVELS>(table, e, load_root(job.key[0][F_ROOT], e.index, 0),
                                                 load_root(job.key[1][F_ROOT], e.index, 1), alpha, job.key[0][F_SEED_CW],
                                                 job.key[0][F_LEAF_CW], [](u32, u32) {});
    if (!e.live) return;
    u64 rho = own_bit(job, F_SIGN_MASK, 0, e.index) ^ (r_in >> (SHIFT + TREE_BITS) & 1);
    u8* ring = explicit_field(job, F_RING);
    Line<false>::Elements shares(ring, e.index);
    Line<false>::subtract(shares, r_in, r_out, entry_mask(job, F_ENTRY_MASK, e.index), 2 * by_p0 - 1, 0, rho);
    shares.store(ring, e.index);
}

// Four words of the leaves from bit `place` of block `a` on; block `b` follows.
__device__ inline uint4 from_place(uint4 a, uint4 b, u32 place) {
    u32 word[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 6; i++) word[i] = place & 64 ? word[i + 2] : word[i];
#pragma unroll
    for (int i = 0; i < 5; i++) word[i] = place & 32 ? word[i + 1] : word[i];
    u32 shift = place % 32;
    return make_uint4(__funnelshift_r(word[0], word[1], shift), __funnelshift_r(word[1], word[2], shift),
                      __funnelshift_r(word[2], word[3], shift), __funnelshift_r(word[3], word[4], shift));
}

KERNEL dpf_window(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    Element e(job);
    constexpr u64 DOMAIN = (1ULL << TREE_BITS) - 1;
    u64 v = job.input[e.index] >> SHIFT, centre = ~v & DOMAIN;
    // The window's blocks lie under neighbouring nodes of the level TOP, from that of `start` on.
    u64 start = (centre - (1ULL << (WINDOW_BITS - 1))) & DOMAIN;
    u32 place = centre % 128, offset = start >> LEAF_BITS & (SPAN - 1);
    constexpr u64 STEP = 1ULL << (LEAF_BITS + WHOLE);
    u64 last = (start + (1ULL << WINDOW_BITS)) & DOMAIN;
    u32 shared = shared_levels(TOP, LEAF_BITS + WHOLE, start ^ last);

    Corrections<TREE_LEVELS> cw = {job.key[0][F_SEED_CW], job.key[0][F_LEAF_CW], nullptr, nullptr, 0, e.index};
    uint4 fork[1] = {load_root(job.key[0][F_ROOT], e.index, job.party)};
    u32 fork_passed[1] = {0};
    u64 point[1] = {start};
    walk<HalfTree, TREE_LEVELS, 1>(table, cw, fork, fork_passed, point, 0, shared);

    // The nodes under two neighbours, and the parity of the leaves to the left of each neighbour.
    uint4 node[2 * SPAN];
    u32 passed[2];
    uint4 tops[2] = {fork[0], fork[0]};
    u64 points[2] = {start, (start + STEP) & DOMAIN};
    passed[0] = passed[1] = fork_passed[0];
    walk<HalfTree, TREE_LEVELS, 2>(table, cw, tops, passed, points, shared, TOP);
    uint4 under[SPAN];
    under[0] = tops[0];
    expand<HalfTree, WHOLE>(table, cw, under, TOP);
#pragma unroll
    for (int i = 0; i < SPAN; i++) node[i] = under[i];
    under[0] = tops[1];

    Sums sums;
    u32 below = 0;
#pragma unroll 1
    for (int window = 0; window < 1 << (HEIGHT - WHOLE); window++) {
        if (window > 0) {
            // The next neighbour.
            uint4 next[1] = {fork[0]};
            u32 next_passed[1] = {fork_passed[0]};
            u64 next_point[1] = {(start + (window + 1) * STEP) & DOMAIN};
            walk<HalfTree, TREE_LEVELS, 1>(table, cw, next, next_passed, next_point, shared, TOP);
            passed[0] = passed[1], passed[1] = next_passed[0];
#pragma unroll
            for (int i = 0; i < SPAN; i++) node[i] = under[i];
            under[0] = next[0];
        }
        expand<HalfTree, WHOLE>(table, cw, under, TOP);
#pragma unroll
        for (int i = 0; i < SPAN; i++) node[SPAN + i] = under[i];

        // The centre is half the window away from the start: the same bits of its block are below it.
        constexpr int MIDDLE_WINDOW = HEIGHT > WHOLE ? 1 << (HEIGHT - WHOLE - 1) : 0, MIDDLE = HEIGHT > WHOLE ? 0 : SPAN / 2;
        if (window == MIDDLE_WINDOW) {
            u32 at = offset + MIDDLE;
            below = at < SPAN ? passed[0] : passed[1];
#pragma unroll
            for (u32 i = 0; i < 2 * SPAN; i++) {
                // A block's parity is its node's control bit.
                if (i < at && (i >= SPAN || at < SPAN)) below ^= node[i].x;
            }
        }
        // The offset is public.
        uint4 shifted[2 * SPAN];
#pragma unroll
        for (int i = 0; i < 2 * SPAN; i++) shifted[i] = node[i];
#pragma unroll
        for (int step = SPAN / 2; step > 0; step /= 2) {
            bool move = (offset & step) != 0;
#pragma unroll
            for (int i = 0; i < SPAN + step; i++) shifted[i] = move ? shifted[i + step] : shifted[i];
        }
        uint4 leaf[SPAN + 1];
#pragma unroll
        for (int i = 0; i <= SPAN; i++) leaf[i] = shifted[i];
        cw.template leaves<HalfTree, SPAN + 1>(table, leaf);
        if (window == MIDDLE_WINDOW) below ^= parity_below(leaf[MIDDLE], centre);
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            uint4 four = from_place(leaf[i], leaf[i + 1], place);
            int first = 4 * (window * SPAN + i);
            read_word<WINDOW_WORDS, WINDOW_PLANES>(sums, WINDOW, first, four.x);
            read_word<WINDOW_WORDS, WINDOW_PLANES>(sums, WINDOW, first + 1, four.y);
            read_word<WINDOW_WORDS, WINDOW_PLANES>(sums, WINDOW, first + 2, four.z);
            read_word<WINDOW_WORDS, WINDOW_PLANES>(sums, WINDOW, first + 3, four.w);
        }
    }

    // t is negative as its highest bit, that of r' and the borrow say; that of r' is in the mask. P0 takes what is public.
    u32 positive = below ^ (job.party == 0 ? 1 ^ (u32)(v >> TREE_BITS) : 0);
    put_message_bit(job, job.out[0], e, positive ^ key_bit(job, job.key[0][F_SIGN_MASK], 0, e.index));
    u64 share = entries(sums, WINDOW_LEAST);
    // P1's share is negated: where the leaves agree, the sums cancel.
    if (job.party == 1) share = 0 - share;
    share += reinterpret_cast<const u16*>(job.key[0][F_ENTRY_MASK])[e.index];
    put_packed<ENTRY_BITS>(job, job.out[1], e, share);
}

KERNEL dpf_output(const __grid_constant__ Job job) {
    Element e(job);
    u32 pos = opened_bit(job, 0, e.index);
    u64 entry = opened<ENTRY_BITS>(job, 1, e.index);
    put_packed<WIRE_BITS>(job, job.out[0], e, Line<false>::share(job, job.key[0][F_RING], e.index, entry, 1, pos));
}
