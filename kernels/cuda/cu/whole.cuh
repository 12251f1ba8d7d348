// All leaves of a small tree as one vector, read from a public place on.

template <typename Rule, int LEVELS, int PLANES>
__device__ inline Sums read_whole(const TreeCipher& cipher, const Corrections<LEVELS>& cw, uint4 root, u32 place,
                                  const u32* planes) {
    constexpr int BLOCKS = 1 << LEVELS, WORDS = 4 * BLOCKS, GROUP = BLOCKS < 4 ? BLOCKS : 4;
    uint4 node[BLOCKS];
    node[0] = root;
    expand<Rule, LEVELS>(cipher, cw, node, 0);
    u32 word[WORDS];
#pragma unroll
    for (int first = 0; first < BLOCKS; first += GROUP) {
        uint4 leaf[GROUP];
#pragma unroll
        for (int i = 0; i < GROUP; i++) leaf[i] = node[first + i];
        cw.template leaves<Rule, GROUP>(cipher, leaf);
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            u32* out = word + 4 * (first + i);
            out[0] = leaf[i].x, out[1] = leaf[i].y, out[2] = leaf[i].z, out[3] = leaf[i].w;
        }
    }
#pragma unroll
    for (int step = WORDS / 2; step > 0; step /= 2) {
        bool turn = (place / 32 & step) != 0;
        u32 turned[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; i++) turned[i] = turn ? word[(i + step) % WORDS] : word[i];
#pragma unroll
        for (int i = 0; i < WORDS; i++) word[i] = turned[i];
    }
    Sums sums;
#pragma unroll
    for (int i = 0; i < WORDS; i++) {
        u32 rotated = __funnelshift_r(word[i], word[(i + 1) % WORDS], place % 32);
        read_word<WORDS, PLANES>(sums, planes, i, rotated);
    }
    return sums;
}
