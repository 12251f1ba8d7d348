// `onehot`: one-time truth tables on short digits of the mask. See kernels/gate, onehot.rs, and kernels/cpu, onehot/.
// Defined outside: WINDOW_BITS, SHIFT, T_BITS, DIGITS, LOWER_DIGITS, DIGIT_BITS (four bits for each), the fields F_..,
// the table WINDOW, and what line.cuh wants.

#define T_MASK ((1ULL << T_BITS) - 1)
// Segments of the first message: c, p, three for each lower digit, two of the top digit; p alone without digits.
#define STATE_BITS (DIGITS == 0 ? 1 : 4 + 3 * LOWER_DIGITS)
// Where the states stand in an element's word.
#define LOWER_AT 2
#define TOP_AT (LOWER_AT + 3)
#define SELECT_ROWS (LOWER_DIGITS == 0 ? 16 : 128)

// What an evaluation keeps.
#define S_STATES 0
#define S_ENTRY 1

__device__ constexpr int digit_bits(int digit) { return DIGIT_BITS >> (4 * digit) & 15; }

__device__ constexpr int digit_shift(int digit) {
    int shift = WINDOW_BITS;
    for (int i = 0; i < digit; i++) shift += digit_bits(i);
    return shift;
}

// The digit's part of a shifted number.
template <int DIGIT>
__device__ inline u32 digit_of(u64 t) {
    return (u32)(t >> digit_shift(DIGIT)) & ((1u << digit_bits(DIGIT)) - 1);
}

// A vector of 2^BITS bits, rotated so that place k is place k + v.
template <int BITS>
struct Hot {
    u64 low, high;

    __device__ Hot(const u8* field, u32 e, u32 v) {
        Row<(1 << BITS) / 8> row(field, e);
        if constexpr (BITS == 7) {
            u64 a = row.element(0), b = row.element(1);
            if (v & 64) {
                u64 c = a;
                a = b, b = c;
            }
            u32 shift = v & 63;
            // Two shifts, since one by 64 is none.
            low = a >> shift | b << 1 << (63 - shift);
            high = b >> shift | a << 1 << (63 - shift);
        } else if constexpr (BITS == 6) {
            u64 a = row.element(0);
            low = a >> v | a << 1 << (63 - v);
            high = 0;
        } else {
            u64 a = row.word[0];
            low = (a | a << (1 << BITS)) >> v & ((1ULL << (1 << BITS)) - 1);
            high = 0;
        }
    }

    __device__ u32 first() const { return low & 1; }
    __device__ u32 last() const { return BITS == 7 ? high >> 63 : low >> ((1 << BITS) - 1) & 1; }

    // Parity of places 1..end; `end` is at most 2^BITS.
    __device__ u32 parity_below(u32 end) const {
        auto ones = [](u32 count) { return count == 0 ? 0ULL : ~0ULL >> (64 - count); };
        u64 sum = (low & ones(min(end, 64u)) & ~1ULL) ^ (end > 64 ? high & ones(end - 64) : 0);
        return __popcll(sum) & 1;
    }
};

// lt, eq, q in bits 0, 1, 2.
template <int BITS>
__device__ inline u32 lower_state(const u8* field, u32 e, u32 v) {
    Hot<BITS> hot(field, e, v);
    return hot.parity_below((1u << BITS) - v) | hot.first() << 1 | hot.last() << 2;
}

// near, high in bits 0, 1.
template <int BITS>
__device__ inline u32 top_state(const u8* field, u32 e, u32 v) {
    Hot<BITS> hot(field, e, v);
    u32 one_above = hot.last();
    return (hot.first() ^ one_above) | (one_above ^ hot.parity_below((1u << (BITS - 1)) + 1)) << 1;
}

template <int DIGIT>
__device__ inline u32 digit_states(const Job& job, u32 e, u64 t) {
    if constexpr (DIGIT < DIGITS) {
        constexpr int BITS = digit_bits(DIGIT);
        const u8* field = job.key[0][F_DIGIT_0 + DIGIT];
        u32 v = digit_of<DIGIT>(t);
        u32 state = DIGIT < LOWER_DIGITS ? lower_state<BITS>(field, e, v) : top_state<BITS>(field, e, v);
        return state << (LOWER_AT + 3 * DIGIT) | digit_states<DIGIT + 1>(job, e, t);
    } else {
        return 0;
    }
}

KERNEL onehot_states(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u64 t = ((job.input[e.index] >> SHIFT) + (1ULL << (WINDOW_BITS - 1))) & T_MASK;
    u32 v = t & ((1u << WINDOW_BITS) - 1);
    const u32* hot = reinterpret_cast<const u32*>(job.key[0][F_WINDOW]) + (u64)e.index * WINDOW_WORDS;
    u32 start = v / 32, shift = v % 32;
    u32 above = 0, half = 0;
    Sums sums;
    u32 next = hot[start];
#pragma unroll(WINDOW_WORDS <= 32 ? WINDOW_WORDS : 8)
    for (int i = 0; i < WINDOW_WORDS; i++) {
        u32 at = (start + i) % WINDOW_WORDS;
        u32 word = next;
        next = hot[(at + 1) % WINDOW_WORDS];
        u32 rotated = __funnelshift_r(word, next, shift);
        above ^= word & (at > start ? ~0u : at == start ? ~1u << shift : 0u);
        // Places 1 to 2^(L-1): v - r in the upper half.
        half ^= rotated & (ones_below((1 << (WINDOW_BITS - 1)) + 1, i) & (i == 0 ? ~1u : ~0u));
        read_word<WINDOW_WORDS, WINDOW_PLANES>(sums, WINDOW, i, rotated);
    }
    u32 states = (__popc(above) & 1) | (__popc(half) & 1) << 1 | digit_states<0>(job, e.index, t);
    if (DIGITS == 0) states >>= 1;
#pragma unroll
    for (int bit = 0; bit < STATE_BITS; bit++) {
        u32 mask = key_bit(job, job.key[0][F_BIT_MASKS], bit, e.index);
        put_message_bit(bit, e, (states >> bit & 1) ^ mask);
    }
    u64 share = entries(sums, WINDOW_LEAST);
    // P1's share is negated: where the two vectors agree, the sums cancel.
    if (job.party == 1) share = 0 - share;
    share += reinterpret_cast<const u16*>(job.key[0][F_ENTRY_MASK])[e.index];
    put_packed<ENTRY_BITS>(job, STATE_BITS, e, share);
    finished(job);
}

// Opens the first exchange; keeps the entry.
__device__ inline u32 open_states(const Job& job, Element e) {
    u32 states = 0;
#pragma unroll
    for (int bit = 0; bit < STATE_BITS; bit++) states |= opened_bit(job, bit, e.index) << bit;
    if (DIGITS != 0 && e.live) job.state[S_ENTRY][e.index] = opened<ENTRY_BITS>(job, STATE_BITS, e.index);
    return states;
}

// Bit `row` of plane `plane` of a table with `rows` rows.
__device__ inline u32 table_bit(const u8* table, u32 rows, u32 plane, u32 row) {
    return table[(plane * rows + row) / 8] >> (row % 8) & 1;
}

#if LOWER_DIGITS == 2
KERNEL onehot_combine(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 states = open_states(job, e);
    if (e.live) job.state[S_STATES][e.index] = states;
    const u8* table = job.key[0][F_COMBINE] + (u64)e.index * (3 * 64 / 8);
#pragma unroll
    for (int bit = 0; bit < 3; bit++) {
        put_message_bit(bit, e, table_bit(table, 64, bit, states >> LOWER_AT & 63));
    }
    finished(job);
}
#endif

#if DIGITS != 0
KERNEL onehot_choice(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 row;
    if (LOWER_DIGITS == 2) {
        u32 states = job.state[S_STATES][e.index], combined = 0;
#pragma unroll
        for (int bit = 0; bit < 3; bit++) combined |= opened_bit(job, bit, e.index) << bit;
        row = (states & ((1 << LOWER_AT) - 1)) | combined << LOWER_AT | states >> (TOP_AT + 3) << TOP_AT;
    } else {
        row = open_states(job, e);
    }
    const u8* table = job.key[0][F_SELECT] + (u64)e.index * (2 * SELECT_ROWS / 8);
#pragma unroll
    for (int bit = 0; bit < 2; bit++) {
        put_message_bit(bit, e, table_bit(table, SELECT_ROWS, bit, row));
    }
    finished(job);
}
#endif

KERNEL onehot_output(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 w = 1, pos;
    u64 entry;
    if (DIGITS == 0) {
        // w is 1, and p is pos.
        pos = open_states(job, e);
        entry = opened<ENTRY_BITS>(job, STATE_BITS, e.index);
    } else {
        w = opened_bit(job, 0, e.index), pos = opened_bit(job, 1, e.index);
        entry = job.state[S_ENTRY][e.index];
    }
    u64 share = Line<DIGITS != 0>::share(job, job.key[0][F_RING], e.index, entry, w, pos);
    put_packed<WIRE_BITS>(job, 0, e, share);
    finished(job);
}

// State of a lower digit, one row of a truth table per bit.
struct LowWords {
    u32 lt, eq, q;

    __device__ LowWords over(LowWords low) const {
        return {lt | (eq & low.lt), eq & low.eq, low.q & ((low.lt & q) | (~low.lt & eq))};
    }
};

// w and pos.
__device__ inline uint2 select_words(u32 c, u32 p, LowWords low, u32 near, u32 high) {
    u32 equal = near & ~high, one_above = near & high, negative = ~near & high;
    u32 borrow = low.lt | (low.eq & c);
    u32 low_zero = (low.eq & ~c) | (c & low.q);
    u32 inside = low_zero & ((borrow & one_above) | (~borrow & equal));
    return make_uint2(inside, ~(negative | (borrow & equal) | (inside & ~p)));
}

// Bit `bit` of the row numbers of word `word`, xor bit `bit` of the rows' mask.
__device__ inline u32 row_bit(int word, int bit, u32 mask) {
    constexpr u32 BITS[5] = {0xAAAAAAAA, 0xCCCCCCCC, 0xF0F0F0F0, 0xFF00FF00, 0xFFFF0000};
    return (bit < 5 ? BITS[bit] : (word >> (bit - 5) & 1) ? ~0u : 0u) ^ spread(mask, bit);
}

// XORs the one-hot vector of `r` into an element's share; nonzero if the share has a 1 at the hot place. Every word is
// touched alike: which one holds the 1 is a secret.
template <int BYTES>
__device__ inline u32 xor_hot(u8* field, u32 e, u32 r) {
    constexpr int STEP = BYTES < 16 ? BYTES : 16;
    u32 under = 0;
#pragma unroll(BYTES / STEP <= 8 ? BYTES / STEP : 8)
    for (int i = 0; i < BYTES / STEP; i++) {
        u32 at = e * (BYTES / STEP) + i;
        Row<STEP> row(field, at);
#pragma unroll
        for (int word = 0; word < Row<STEP>::WORDS; word++) {
            u32 hot = r / 32 == i * Row<STEP>::WORDS + word ? 1u << (r % 32) : 0u;
            under |= row.word[word] & hot;
            row.word[word] ^= hot;
        }
        row.store(field, at);
    }
    return under;
}

template <int DIGIT>
__device__ inline void deal_digits(const Job& job, u32 e, u64 t) {
    if constexpr (DIGIT < DIGITS) {
        xor_hot<(1 << digit_bits(DIGIT)) / 8>(explicit_field(job, F_DIGIT_0 + DIGIT), e, digit_of<DIGIT>(t));
        deal_digits<DIGIT + 1>(job, e, t);
    }
}

// The masks of the rows of the select table, from those of the first exchange.
__device__ inline u32 deal_combine(const Job& job, u32 e, u32 masks) {
#if LOWER_DIGITS == 2
    u8* table = explicit_field(job, F_COMBINE);
    u32 out = 0;
#pragma unroll
    for (int bit = 0; bit < 3; bit++) out |= key_bit(job, job.dealer[F_COMBINE_MASK], bit, e) << bit;
    Row<24> row(table, e);
#pragma unroll
    for (int word = 0; word < 2; word++) {
        auto bit = [&](int i) { return row_bit(word, i, masks >> LOWER_AT); };
        LowWords low = {bit(0), bit(1), bit(2)}, high = {bit(3), bit(4), bit(5)};
        LowWords both = high.over(low);
        row.word[word] ^= both.lt ^ spread(out, 0);
        row.word[2 + word] ^= both.eq ^ spread(out, 1);
        row.word[4 + word] ^= both.q ^ spread(out, 2);
    }
    row.store(table, e);
    return (masks & ((1 << LOWER_AT) - 1)) | out << LOWER_AT | masks >> (TOP_AT + 3) << TOP_AT;
#else
    return masks;
#endif
}

// The masks omega and rho of w and pos, in bits 0 and 1.
__device__ inline u32 deal_select(const Job& job, u32 e, u32 masks) {
#if DIGITS == 0
    // Without digits w is 1 in the clear, and the only mask is that of p.
    return masks << 1;
#else
    u8* table = explicit_field(job, F_SELECT);
    u32 out = key_bit(job, job.dealer[F_CHOICE_MASKS], 0, e) | key_bit(job, job.dealer[F_CHOICE_MASKS], 1, e) << 1;
    Row<2 * SELECT_ROWS / 8> row(table, e);
    if constexpr (LOWER_DIGITS != 0) {
#pragma unroll
        for (int word = 0; word < 4; word++) {
            auto bit = [&](int i) { return row_bit(word, i, masks); };
            LowWords low = {bit(2), bit(3), bit(4)};
            uint2 both = select_words(bit(0), bit(1), low, bit(5), bit(6));
            row.word[word] ^= both.x ^ spread(out, 0);
            row.word[4 + word] ^= both.y ^ spread(out, 1);
        }
    } else {
        auto bit = [&](int i) { return row_bit(0, i, masks); };
        LowWords empty = {0, ~0u, ~0u};
        uint2 both = select_words(bit(0), bit(1), empty, bit(2), bit(3));
        row.word[0] ^= ((both.x ^ spread(out, 0)) & 0xFFFF) | (both.y ^ spread(out, 1)) << 16;
    }
    row.store(table, e);
    return out;
#endif
}

KERNEL onehot_deal(const __grid_constant__ Job job) {
    Element element(job);
    if (!element.live) return;
    u32 e = element.index;
    u64 r_in = wire_mask(job.taken, e), r_out = wire_mask(job.made, e);
    u32 masks = 0;
#pragma unroll
    for (int bit = 0; bit < STATE_BITS; bit++) masks |= own_bit(job, F_BIT_MASKS, bit, e) << bit;
    u64 t = r_in >> SHIFT & T_MASK;
    u32 window = t & ((1u << WINDOW_BITS) - 1);
    u32 held = xor_hot<(1 << WINDOW_BITS) / 8>(explicit_field(job, F_WINDOW), e, window) != 0;
    deal_digits<0>(job, e, t);
    u32 choice = deal_select(job, e, deal_combine(job, e, masks));
    // s is 1 if party 0 holds the 1 at the hot place, else -1.
    u64 sign = 2 * (u64)(held ^ job.seeded) - 1;
    u8* ring = explicit_field(job, F_RING);
    using Output = Line<DIGITS != 0>;
    Output::Elements shares(ring, e);
    Output::subtract(shares, r_in, r_out, entry_mask(job, F_ENTRY_MASK, e), sign, choice & 1, choice >> 1 & 1);
    shares.store(ring, e);
    Output::subtract_wraps(job, e, choice >> 1 & 1);
}
