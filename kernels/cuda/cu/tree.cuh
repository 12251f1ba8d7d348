// DPF trees over blocks of 128 leaves: see kernels/cpu, tree/. A node is a block; bit 0 of its first byte is its control
// bit. Points of evaluation are public, alpha is secret: what depends on it is selected by masks.

#define LEAF_BITS 7
// The points and levels of a gate's tree at TREE_BITS bits, if it has one.
#define TREE_MASK ((1ULL << TREE_BITS) - 1)
#define TREE_LEVELS (TREE_BITS - LEAF_BITS)

// All ones if a node's control bit is set.
__device__ inline u32 control(uint4 node) { return 0u - (node.x & 1); }

__device__ inline uint4 select(u32 mask, uint4 on, uint4 off) { return off ^ ((on ^ off) & mask); }

__device__ inline uint4 load_block(const u8* field, u64 index) {
    return reinterpret_cast<const uint4*>(field)[index];
}

__device__ inline void store_block(u8* field, u64 index, uint4 block) { reinterpret_cast<uint4*>(field)[index] = block; }

// A party's root.
__device__ inline uint4 load_root(const u8* field, u32 e, u32 party) {
    uint4 root = load_block(field, e);
    root.x = (root.x & ~1u) | party;
    return root;
}

__device__ inline uint4 operator&(uint4 a, uint4 b) { return make_uint4(a.x & b.x, a.y & b.y, a.z & b.z, a.w & b.w); }

// 2^(point mod 128).
__device__ inline uint4 one_hot(u64 point) {
    u32 word = point >> 5 & 3, bit = 1u << (point & 31);
    return make_uint4(word == 0 ? bit : 0, word == 1 ? bit : 0, word == 2 ? bit : 0, word == 3 ? bit : 0);
}

__device__ inline u32 parity(uint4 block) { return __popc(block.x ^ block.y ^ block.z ^ block.w) & 1; }

// Parity of the leaves below `point` in its block.
__device__ inline u32 parity_below(uint4 leaves, u64 point) {
    int end = point & 127;
    return parity(make_uint4(leaves.x & ones_below(end, 0), leaves.y & ones_below(end, 1),
                             leaves.z & ones_below(end, 2), leaves.w & ones_below(end, 3)));
}

// A level's correction. Bit 0 of `right` is that of the right child's control bit.
struct Correction {
    uint4 word;
    u32 right;
};

// Boyle, Gilboa, Ishai, CCS 2016.
struct Bgi {
    // The children that `bits` lead to; `passed` gets the control bits of what is left behind on the left.
    template <int N>
    __device__ static void step(const TreeCipher& cipher, uint4 (&node)[N], u32 (&passed)[N], Correction cw,
                                const u32 (&bits)[N]) {
        uint4 child[N];
#pragma unroll
        for (int n = 0; n < N; n++) {
            child[n] = node[n];
            child[n].x = (node[n].x & ~1u) | bits[n];
        }
        cipher.nodes(child);
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint4 word = cw.word;
            word.x = bits[n] ? (word.x & ~1u) | cw.right : word.x;
            child[n] = child[n] ^ (word & control(node[n]));
            passed[n] ^= bits[n] & (child[n].x ^ node[n].x);
            node[n] = child[n];
        }
    }

    // Both children of each node.
    template <int N>
    __device__ static void children(const TreeCipher& cipher, const uint4 (&node)[N], uint4 (&child)[2 * N], Correction cw) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            child[2 * n] = child[2 * n + 1] = node[n];
            child[2 * n].x = node[n].x & ~1u;
            child[2 * n + 1].x = node[n].x | 1;
        }
        cipher.nodes(child);
        uint4 right = cw.word;
        right.x = (right.x & ~1u) | cw.right;
#pragma unroll
        for (int n = 0; n < N; n++) {
            child[2 * n] = child[2 * n] ^ (cw.word & control(node[n]));
            child[2 * n + 1] = child[2 * n + 1] ^ (right & control(node[n]));
        }
    }

    template <int N>
    __device__ static void convert(const TreeCipher& cipher, uint4 (&node)[N]) {
#pragma unroll
        for (int n = 0; n < N; n++) node[n].x &= ~1u;
        cipher.leaves(node);
    }

    // The dealer's step of both parties along alpha, whose bit `alpha` spreads over a word.
    __device__ static Correction deal(const TreeCipher& cipher, uint4 (&node)[2], u32 alpha) {
        uint4 child[4];
        children(cipher, node, child, Correction{make_uint4(0, 0, 0, 0), 0});
        uint4 left = child[0] ^ child[2], right = child[1] ^ child[3];
        Correction cw;
        u32 left_bit = ~(left.x ^ alpha) & 1;
        cw.right = (right.x ^ alpha) & 1;
        // The word makes the seeds of the child off the path equal, and the bits leave a control bit of 1 on it.
        cw.word = select(alpha, left, right);
        cw.word.x &= ~1u;
        uint4 kept = cw.word;
        kept.x |= (alpha & cw.right) | (~alpha & left_bit);
        cw.word.x |= left_bit;
#pragma unroll
        for (int party = 0; party < 2; party++) {
            uint4 next = select(alpha, child[2 * party + 1], child[2 * party]);
            node[party] = next ^ (kept & control(node[party]));
        }
        return cw;
    }
};

// The half-tree of Guo et al., EUROCRYPT 2023.
struct HalfTree {
    // (high, low) -> (high xor low, high).
    __device__ static uint4 orthomorphism(uint4 a) { return make_uint4(a.z, a.w, a.x ^ a.z, a.y ^ a.w); }

    template <int N>
    __device__ static void hash(const TreeCipher& cipher, const uint4 (&node)[N], uint4 (&out)[N]) {
#pragma unroll
        for (int n = 0; n < N; n++) out[n] = orthomorphism(node[n]);
        cipher.nodes(out);
    }

    template <int N>
    __device__ static void step(const TreeCipher& cipher, uint4 (&node)[N], u32 (&passed)[N], Correction cw,
                                const u32 (&bits)[N]) {
        uint4 left[N];
        hash(cipher, node, left);
#pragma unroll
        for (int n = 0; n < N; n++) {
            left[n] = left[n] ^ (cw.word & control(node[n]));
            passed[n] ^= bits[n] & left[n].x;
            node[n] = left[n] ^ (node[n] & (0u - bits[n]));
        }
    }

    template <int N>
    __device__ static void children(const TreeCipher& cipher, const uint4 (&node)[N], uint4 (&child)[2 * N], Correction cw) {
        uint4 left[N];
        hash(cipher, node, left);
#pragma unroll
        for (int n = 0; n < N; n++) {
            child[2 * n] = left[n] ^ (cw.word & control(node[n]));
            child[2 * n + 1] = child[2 * n] ^ node[n];
        }
    }

    template <int N>
    __device__ static void convert(const TreeCipher& cipher, uint4 (&node)[N]) {
#pragma unroll
        for (int n = 0; n < N; n++) node[n] = orthomorphism(node[n]);
        cipher.leaves(node);
    }

    __device__ static Correction deal(const TreeCipher& cipher, uint4 (&node)[2], u32 alpha) {
        uint4 left[2];
        hash(cipher, node, left);
        Correction cw;
        cw.right = 0;
        cw.word = left[0] ^ left[1] ^ ((node[0] ^ node[1]) & ~alpha);
#pragma unroll
        for (int party = 0; party < 2; party++) {
            left[party] = left[party] ^ (cw.word & control(node[party]));
            node[party] = left[party] ^ (node[party] & alpha);
        }
        return cw;
    }
};

// Where one element's corrections stand.
template <int LEVELS>
struct Corrections {
    const u8* words;
    const u8* leaf;
    // One of the two, or none: a word for each element, or a plane for each level.
    const u8* right_words;
    const u8* right_planes;
    u32 plane_bytes;
    u32 e;

    __device__ Correction level(u32 level) const {
        u32 right = 0;
        if (right_words) right = reinterpret_cast<const u32*>(right_words)[e] >> level & 1;
        if (right_planes) right = right_planes[level * plane_bytes + e / 8] >> (e % 8) & 1;
        return Correction{load_block(words, (u64)e * LEVELS + level), right};
    }

    // Converts nodes of the last level to leaves.
    template <typename Rule, int N>
    __device__ void leaves(const TreeCipher& cipher, uint4 (&node)[N]) const {
        u32 bits[N];
#pragma unroll
        for (int n = 0; n < N; n++) bits[n] = control(node[n]);
        Rule::convert(cipher, node);
        uint4 correction = load_block(leaf, e);
#pragma unroll
        for (int n = 0; n < N; n++) node[n] = node[n] ^ (correction & bits[n]);
    }
};

// Takes N walks from level `from` to level `to` of a tree whose points have `LEVELS` + 7 bits.
template <typename Rule, int LEVELS, int N>
__device__ inline void walk(const TreeCipher& cipher, const Corrections<LEVELS>& cw, uint4 (&node)[N], u32 (&passed)[N],
                            const u64 (&points)[N], u32 from, u32 to) {
#pragma unroll 1
    for (u32 level = from; level < to; level++) {
        u32 bits[N];
#pragma unroll
        for (int n = 0; n < N; n++) bits[n] = points[n] >> (LEVELS + LEAF_BITS - 1 - level) & 1;
        Rule::template step<N>(cipher, node, passed, cw.level(level), bits);
    }
}

// How many of the first `levels` levels the paths to two points have in common, for all lanes of the warp. `rest` bits
// of a point are below those levels.
__device__ inline u32 shared_levels(u32 levels, u32 rest, u64 apart) {
    u32 below = 64 - __clzll(apart >> rest);
    u32 shared = levels - min(below, levels);
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) shared = min(shared, __shfl_xor_sync(ALL_LANES, shared, lanes));
    return shared;
}

// Replaces the node of level `top` that stands first by its 2^HEIGHT descendants, in order.
template <typename Rule, int HEIGHT, int LEVELS>
__device__ inline void expand(const TreeCipher& cipher, const Corrections<LEVELS>& cw, uint4 (&node)[1 << HEIGHT], u32 top) {
    if constexpr (HEIGHT > 0) {
        uint4 one[1] = {node[0]}, two[2];
        Rule::template children<1>(cipher, one, two, cw.level(top));
        if constexpr (HEIGHT == 1) {
            node[0] = two[0], node[1] = two[1];
        } else {
            uint4 four[4];
            Rule::template children<2>(cipher, two, four, cw.level(top + 1));
            if constexpr (HEIGHT == 2) {
#pragma unroll
                for (int i = 0; i < 4; i++) node[i] = four[i];
            } else {
                static_assert(HEIGHT == 3, "trees of at most 8 blocks are expanded whole");
                Rule::template children<4>(cipher, four, node, cw.level(top + 2));
            }
        }
    }
}

// Makes the corrections that leave leaves whose XOR is 1 at alpha and 0 elsewhere, for both parties at once. Returns
// party 0's share of the leaf at alpha. `put_right(level, bit)` takes the right children's corrections.
template <typename Rule, int LEVELS, typename PutRight>
__device__ inline u32 deal_tree(const TreeCipher& cipher, Element e, uint4 root_0, uint4 root_1, u64 alpha, u8* words,
                                u8* leaf, PutRight put_right) {
    uint4 node[2] = {root_0, root_1};
#pragma unroll 1
    for (u32 level = 0; level < LEVELS; level++) {
        u32 bit = 0u - (u32)(alpha >> (LEVELS + LEAF_BITS - 1 - level) & 1);
        Correction cw = Rule::deal(cipher, node, bit);
        if (e.live) store_block(words, (u64)e.index * LEVELS + level, cw.word);
        put_right(level, cw.right);
    }
    u32 bit_0 = control(node[0]);
    Rule::template convert<2>(cipher, node);
    uint4 hot = one_hot(alpha);
    uint4 correction = node[0] ^ node[1] ^ hot;
    if (e.live) store_block(leaf, e.index, correction);
    return parity((node[0] ^ (correction & bit_0)) & hot);
}
