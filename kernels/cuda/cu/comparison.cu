// Comparisons with a secret point by a half-tree with a payload at each level: docs/protocols/comparison.md. All paths of a party are
// public; the dealer's follow the secret point without a branch or an index of it.

struct Trees {
    const uint4* roots[2];
    uint4* nodes;
    u8* payloads;
    u32 node_keys[ROUND_KEYS];
    u32 leaf_keys[ROUND_KEYS];
    u32 levels, payload_bytes;
};

__device__ inline uint4 hashed(const AesTable& table, const u32 (&keys)[ROUND_KEYS], uint4 node) {
    uint4 one[1] = {make_uint4(node.z, node.w, node.x ^ node.z, node.y ^ node.w)};
    aes_feed_forward(table, keys, one);
    return one[0];
}

__device__ inline u32 control_bit(uint4 node) { return 0u - (node.x & 1); }

// A share of a payload: a number, or a pair (1, r).
struct Payload {
    u64 one, r;

    // The first bytes of a block.
    __device__ static Payload of(uint4 block, u32 bytes) {
        u64 low = (u64)block.y << 32 | block.x, high = (u64)block.w << 32 | block.z;
        return bytes == 16 ? Payload{low, high} : Payload{low & low_bits(8 * bytes), 0};
    }

    __device__ static Payload read(const u8* from, u32 bytes) {
        if (bytes == 1) return Payload{*from, 0};
        if (bytes == 2) return Payload{*reinterpret_cast<const u16*>(from), 0};
        const u64* words = reinterpret_cast<const u64*>(from);
        return Payload{words[0], words[1]};
    }

    __device__ void write(u8* to, u32 bytes) const {
        if (bytes == 1) {
            *to = (u8)one;
        } else if (bytes == 2) {
            *reinterpret_cast<u16*>(to) = (u16)one;
        } else {
            u64* words = reinterpret_cast<u64*>(to);
            words[0] = one, words[1] = r;
        }
    }

    __device__ void add(Payload other, u32 where) {
        u64 mask = (u64)where << 32 | where;
        one += other.one & mask, r += other.r & mask;
    }

    __device__ Payload minus() const { return Payload{0ULL - one, 0ULL - r}; }
};

// A walk down the tree of a row, and the payloads of the right siblings on its way.
struct Walk {
    const Trees& trees;
    const AesTable& table;
    u32 row, level;
    uint4 node;
    Payload sum;

    __device__ Walk(const Trees& trees, const AesTable& table, u32 row, u32 party)
        : trees(trees), table(table), row(row), level(0), node(trees.roots[0][row]), sum{0, 0} {
        node.x = (node.x & ~1u) | party;
    }

    __device__ void step(u32 right) {
        u64 at = (u64)row * trees.levels + level;
        uint4 left = hashed(table, trees.node_keys, node) ^ (trees.nodes[at] & control_bit(node));
        uint4 other = left ^ node;
        if (right) {
            node = other;
        } else {
            u32 bytes = trees.payload_bytes;
            sum.add(Payload::of(hashed(table, trees.leaf_keys, other), bytes), ~0u);
            sum.add(Payload::read(trees.payloads + at * bytes, bytes), control_bit(other));
            node = left;
        }
        level++;
    }
};

struct DealtTrees {
    Trees trees;
    const u64* points;
    // Of pairs (1, r).
    const u64* values;
    u32 rows, words, bits;
};

// The words of a row's tree, for both parties at once.
KERNEL deal_trees(const __grid_constant__ DealtTrees job) {
    __shared__ AesTable table;
    aes_fill(table);
    u32 row = place();
    if (row >= job.rows) return;
    const Trees& trees = job.trees;
    uint4 node[2];
    for (u32 party = 0; party < 2; party++) {
        node[party] = trees.roots[party][row];
        node[party].x = (node[party].x & ~1u) | party;
    }
#pragma unroll 1
    for (u32 level = 0; level < trees.levels; level++) {
        u32 bit = job.bits - 1 - level;
        u32 right = 0u - (u32)(job.points[(u64)row * job.words + bit / 64] >> (bit % 64) & 1);
        uint4 hash[2] = {hashed(table, trees.node_keys, node[0]), hashed(table, trees.node_keys, node[1])};
        // The left children differ by delta if r goes left, and not at all if it goes right.
        uint4 word = hash[0] ^ hash[1] ^ ((node[0] ^ node[1]) & ~right);
        u64 at = (u64)row * trees.levels + level;
        trees.nodes[at] = word;
        for (u32 party = 0; party < 2; party++) node[party] = hash[party] ^ (word & control_bit(node[party])) ^ (node[party] & right);
        u32 bytes = trees.payload_bytes;
        Payload payload{1, job.values ? job.values[row] : 0};
        payload.add(Payload::of(hashed(table, trees.leaf_keys, node[0]), bytes).minus(), ~0u);
        payload.add(Payload::of(hashed(table, trees.leaf_keys, node[1]), bytes), ~0u);
        // Party 1 takes its payloads with a minus.
        u32 minus = control_bit(node[1]);
        Payload signed_payload{0, 0};
        signed_payload.add(payload, ~minus);
        signed_payload.add(payload.minus(), minus);
        signed_payload.write(trees.payloads + at * bytes, bytes);
    }
}

// Most words of a sum of a row.
#define SUM_WORDS 8

struct Powers {
    Trees trees;
    u64* out;
    const u64* mine;
    // The words 0 of all rows, then the words 1, and so on.
    const u64* theirs;
    u64 base;
    u32 rows, words, party, first, end;
};

// Bits below a threshold that are compared, too.
__device__ inline u32 dropped_of(u32 power) { return power > EXTRA_BITS ? power - EXTRA_BITS : 0; }

template <int L>
__device__ inline void open_row(const Powers& job, u64* v) {
    Number<L> theirs;
#pragma unroll
    for (int i = 0; i < L; i++) theirs.word[i] = job.theirs[(u64)i * job.rows + blockIdx.x];
    Number<L>::read(job.mine + (u64)blockIdx.x * L).plus(theirs).canonical().write(v);
}

// A party's share of how many powers of two a row's sum reaches, a block for each row.
KERNEL count_powers(const __grid_constant__ Powers job) {
    __shared__ AesTable table;
    __shared__ u64 v[SUM_WORDS];
    __shared__ u32 length;
    aes_fill(table);
    if (threadIdx.x == 0) {
        switch (job.words) {
            case 1: open_row<1>(job, v); break;
            case 2: open_row<2>(job, v); break;
            case 4: open_row<4>(job, v); break;
            case 8: open_row<8>(job, v); break;
        }
        length = 0;
        for (u32 i = 0; i < job.words; i++) {
            if (v[i] != 0) length = 64 * (i + 1) - __clzll(v[i]);
        }
    }
    __syncthreads();
    u32 bits = 64 * job.words, thresholds = job.end - job.first;
    u64 count = 0;
    // The last walk is that of v itself.
    for (u32 i = threadIdx.x; i <= thresholds; i += THREADS) {
        Walk walk(job.trees, table, blockIdx.x, job.party);
        u64 share = 0;
        if (i == thresholds) {
            for (u32 power = job.end; power-- > job.first;) {
                while (walk.level < bits - dropped_of(power)) {
                    u32 bit = bits - 1 - walk.level;
                    walk.step(v[bit / 64] >> (bit % 64) & 1);
                }
                share += walk.sum.one;
            }
        } else {
            // v - 2^power, modulo M where that is negative.
            u32 power = job.first + i, depth = bits - dropped_of(power);
            u64 y[SUM_WORDS], taken = 0, borrow = power >= length;
            for (u32 word = 0; word < job.words; word++) {
                taken += word == power / 64 ? 1ULL << (power % 64) : 0;
                u64 less = v[word] - taken;
                taken = v[word] < taken;
                y[word] = less - borrow;
                borrow = less < borrow;
            }
            while (walk.level < depth) {
                u32 bit = bits - 1 - walk.level;
                walk.step(y[bit / 64] >> (bit % 64) & 1);
            }
            share = 0ULL - walk.sum.one;
        }
        count += job.party == 0 ? share : 0ULL - share;
    }
    count = block_sum(count);
    if (threadIdx.x != 0) return;
    if (job.party == 0) {
        u32 reached = length < job.first ? job.first : length > job.end ? job.end : length;
        count += job.base + reached - job.first;
    }
    job.out[blockIdx.x] = count;
}

struct Lines {
    Trees trees;
    u64* out;
    const u64* x;
    const u64* masks;
    // For each end: its compared bits, after how many levels its comparison is over, and how slope and offset change there.
    const u64* ends;
    // For each depth, the changes of all ends whose comparison is over there.
    const u64* depths;
    // Slope and offset of each piece.
    const u64* pieces;
    u32 count, cut, party, elems;
};

// slope x + offset, of shares of 1[..] and of r 1[..].
__device__ inline u64 line(const u64* change, u64 x_hat, Payload share) {
    return change[0] * (x_hat * share.one - share.r) + change[1] * share.one;
}

// A party's share of a piecewise linear function, a block for each element.
KERNEL spline(const __grid_constant__ Lines job) {
    __shared__ AesTable table;
    aes_fill(table);
    u32 levels = job.trees.levels;
    u64 x_hat = job.x[blockIdx.x], value = x_hat >> job.cut & low_bits(levels), sum = 0, below = 0;
    // The last walk is that of the value itself.
    for (u32 i = threadIdx.x; i <= job.count; i += THREADS) {
        Walk walk(job.trees, table, blockIdx.x, job.party);
        const u64* end = job.ends + 4 * (u64)i;
        bool is_value = i == job.count;
        u64 y = is_value ? value : value - end[0];
        u32 depth = is_value ? levels : (u32)end[1];
        u64 share = 0;
        while (walk.level < depth) {
            walk.step(y >> (levels - 1 - walk.level) & 1);
            if (is_value) share -= line(job.depths + 2 * walk.level, x_hat, walk.sum);
        }
        if (!is_value) {
            share += line(end + 2, x_hat, walk.sum);
            below += end[0] <= value;
        }
        sum += job.party == 0 ? share : 0ULL - share;
    }
    sum = block_sum(sum);
    // All have read the first sum.
    __syncthreads();
    below = block_sum(below);
    if (threadIdx.x != 0) return;
    // The public bits take the line of x_hat's own piece, with this party's share of x.
    Payload own{job.party == 0, job.masks[blockIdx.x]};
    job.out[blockIdx.x] = sum + line(job.pieces + 2 * below, x_hat, own);
}
