// The leaves of a half-tree round a public point: see kernels/cpu, tree/eval.rs. Defined outside: TREE_BITS, WINDOW_BITS,
// and the table WINDOW.

// log2 of the blocks of the window.
#define HEIGHT (WINDOW_BITS - LEAF_BITS)
// Levels that are expanded whole.
#define WHOLE (HEIGHT < 3 ? HEIGHT : 3)
#define SPAN (1 << WHOLE)
#define TOP (TREE_LEVELS - WHOLE)

// The window's 2^WINDOW_BITS points, cyclically, with the centre in the middle.
struct Range {
    u64 centre, start;

    __device__ explicit Range(u64 centre) : centre(centre), start((centre - (1ULL << (WINDOW_BITS - 1))) & TREE_MASK) {}

    // The window's blocks lie under neighbouring nodes of the level TOP, from that of `start` on.
    __device__ u64 top(u32 i) const { return (start + ((u64)i << (LEAF_BITS + WHOLE))) & TREE_MASK; }

    // The bits in which the paths to the nodes differ. They are those of the first and the last, unless these are the
    // same after a whole turn.
    __device__ u64 apart() const { return HEIGHT < TREE_LEVELS ? start ^ top(1u << (HEIGHT - WHOLE)) : TREE_MASK; }
};

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

// Reads the window's sums, and returns the share of 1[alpha < centre]. `fork` is the node of level `shared`, at most
// TOP, on the paths to all of the window. `fork_passed` is the parity of the leaves to its left.
__device__ inline u32 read_window(const TreeCipher& cipher, const Corrections<TREE_LEVELS>& cw, uint4 fork, u32 fork_passed,
                                  u32 shared, const Range& range, Sums& sums) {
    u32 place = range.centre % 128, offset = range.start >> LEAF_BITS & (SPAN - 1);
    // The nodes under two neighbours, and the parity of the leaves to the left of each neighbour.
    uint4 node[2 * SPAN], under[SPAN];
    uint4 tops[2] = {fork, fork};
    u32 passed[2] = {fork_passed, fork_passed};
    u64 points[2] = {range.top(0), range.top(1)};
    walk<HalfTree, TREE_LEVELS, 2>(cipher, cw, tops, passed, points, shared, TOP);
    under[0] = tops[0];
    expand<HalfTree, WHOLE>(cipher, cw, under, TOP);
#pragma unroll
    for (int i = 0; i < SPAN; i++) node[i] = under[i];
    under[0] = tops[1];

    u32 below = 0;
#pragma unroll 1
    for (int window = 0; window < 1 << (HEIGHT - WHOLE); window++) {
        if (window > 0) {
            uint4 next[1] = {fork};
            u32 next_passed[1] = {fork_passed};
            u64 next_point[1] = {range.top(window + 1)};
            walk<HalfTree, TREE_LEVELS, 1>(cipher, cw, next, next_passed, next_point, shared, TOP);
            passed[0] = passed[1], passed[1] = next_passed[0];
#pragma unroll
            for (int i = 0; i < SPAN; i++) node[i] = under[i];
            under[0] = next[0];
        }
        expand<HalfTree, WHOLE>(cipher, cw, under, TOP);
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
        cw.template leaves<HalfTree, SPAN + 1>(cipher, leaf);
        if (window == MIDDLE_WINDOW) below ^= parity_below(leaf[MIDDLE], range.centre);
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
    return below;
}
