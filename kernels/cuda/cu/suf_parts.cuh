// `suf`: compiled operator specifications. See kernels/gate, spec/ (scalar.rs is the meaning, element by element), and
// kernels/cpu, suf/. src/gates/suf.rs writes what a specification asks for: the constants, and the functions
// `deal_helpers`, `deal_elements`, `helper_rows` and `output_share`.
//
// Defined outside:
//
// - HAS_TREE, HAS_LOW_TREE, HAS_TABLE, WHOLE_TREE (whether the table is read from all leaves)
// - WINDOW_THRESHOLD (the index of the threshold at the window's centre)
// - DOMAIN_BITS, GRID, LOW_BITS, THRESHOLDS and THRESHOLD, BOUNDS and BOUND
// - COMPARISONS, BELOW (a bit for each comparison with the rounded input)
// - PIECES, DEGREE, COEFFICIENT, CUT (the threshold of each cut), HELPERS, ELEMENTS
// - the segments G_.. and the fields F_...

// What an evaluation keeps.
#define S_COMPARISONS 0
#define S_ENTRY 1
#define S_SIGN 2
#define S_COEFFICIENTS 3

#define LOW_LEVELS (LOW_BITS > LEAF_BITS ? LOW_BITS - LEAF_BITS : 0)
#define LOW_MASK ((1ULL << LOW_BITS) - 1)
// Points that are walked to at once.
#define WALKS 3

// What the first exchange opens.
struct Opened {
    u64 comparisons, entry, sign, coefficients[DEGREE + 1];
};

// The mask of a table's entry; the bits above the entry's width mean nothing.
__device__ inline u64 table_mask(const u8* field, u32 e) {
    u64 mask = 0;
#pragma unroll
    for (int i = 0; i < TABLE_MASK_BYTES; i++) mask |= (u64)field[(u64)e * TABLE_MASK_BYTES + i] << (8 * i);
    return mask;
}

// Turns the seeded side's share of a bit into the explicit side's.
__device__ inline void put_shared_bit(const Job& job, u32 field, u32 plane, Element e, u32 bit) {
    u8* shares = explicit_field(job, field);
    put_key_bit(job, shares, plane, e, bit ^ key_bit(job, shares, plane, e.index));
}

// Turns the seeded side's share of packed ring element `i` into the explicit side's.
__device__ inline void subtract_packed(const Job& job, u32 e, u32 i, u64 value) {
    Row<PACKED> row(explicit_field(job, F_ELEMENTS), e * ELEMENTS + i);
    row.put_packed_element(0, value - row.packed_element(0));
    row.store(explicit_field(job, F_ELEMENTS), e * ELEMENTS + i);
}

// Deals the one-time truth table of a helper of INPUTS comparisons: row i is the plain row i xor `masks`, under `omega`.
// Halves are swapped bit by bit, so that every row is touched whatever the masks are.
template <int INPUTS>
__device__ inline void deal_helper(const Job& job, u32 field, Element e, const u32* truth, u32 masks, u32 omega) {
    constexpr int ROWS = 1 << INPUTS, WORDS = ROWS < 32 ? 1 : ROWS / 32;
    constexpr u32 LOWER[5] = {0x55555555, 0x33333333, 0x0F0F0F0F, 0x00FF00FF, 0x0000FFFF};
    u32 rows[WORDS];
#pragma unroll
    for (int word = 0; word < WORDS; word++) rows[word] = truth[word];
#pragma unroll
    for (int i = 0; i < INPUTS; i++) {
        u32 mask = spread(masks, i);
#pragma unroll
        for (int word = 0; word < WORDS; word++) {
            if (i < 5) {
                u32 low = LOWER[i < 5 ? i : 0], shift = 1u << (i < 5 ? i : 0);
                u32 swapped = (rows[word] >> shift & low) | (rows[word] & low) << shift;
                rows[word] ^= (rows[word] ^ swapped) & mask;
            } else if (!(word >> (i - 5) & 1)) {
                u32 apart = (rows[word] ^ rows[(word + (1 << (i - 5))) % WORDS]) & mask;
                rows[word] ^= apart;
                rows[(word + (1 << (i - 5))) % WORDS] ^= apart;
            }
        }
    }
#pragma unroll
    for (int word = 0; word < WORDS; word++) {
#pragma unroll 1
        for (int row = 0; row < (ROWS < 32 ? ROWS : 32); row++) {
            put_shared_bit(job, field, 32 * word + row, e, rows[word] >> row ^ omega);
        }
    }
}

