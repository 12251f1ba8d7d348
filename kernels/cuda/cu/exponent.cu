// Numbers modulo M = 2^m - 1 of L words, and the rotations of softmax's exponentials: docs/protocols/exponential.md. No branch and no
// index depends on a secret.

template <int L>
struct Number {
    u64 word[L];

    __device__ static Number read(const u64* from) {
        Number number;
#pragma unroll
        for (int i = 0; i < L; i++) number.word[i] = from[i];
        return number;
    }

    __device__ void write(u64* to) const {
#pragma unroll
        for (int i = 0; i < L; i++) to[i] = word[i];
    }

    // The same residue, never as all ones.
    __device__ Number canonical() const {
        u64 all = ~0ULL;
        Number same = *this;
#pragma unroll
        for (int i = 0; i < L; i++) all &= word[i];
        u64 kept = all == ~0ULL ? 0 : ~0ULL;
#pragma unroll
        for (int i = 0; i < L; i++) same.word[i] &= kept;
        return same;
    }

    // Adds a word; what is carried.
    __device__ u64 add_word(u64 carry) {
#pragma unroll
        for (int i = 0; i < L; i++) {
            word[i] += carry;
            carry = word[i] < carry;
        }
        return carry;
    }

    // Adds what was carried out of the top.
    __device__ void add_carried(u64 high) { word[0] += add_word(high); }

    __device__ Number plus(const Number& other) const {
        Number sum = *this;
        u64 carry = 0;
#pragma unroll
        for (int i = 0; i < L; i++) {
            u64 both = word[i] + other.word[i];
            u64 over = both < word[i];
            sum.word[i] = both + carry;
            carry = over + (sum.word[i] < both);
        }
        sum.add_word(carry);
        return sum;
    }

    // M minus the number.
    __device__ Number negated() const {
        Number rest;
#pragma unroll
        for (int i = 0; i < L; i++) rest.word[i] = ~word[i];
        return rest;
    }

    __device__ Number times(u64 by) const {
        Number product;
        u64 high = 0;
#pragma unroll
        for (int i = 0; i < L; i++) {
            u64 low = word[i] * by, next = __umul64hi(word[i], by);
            product.word[i] = low + high;
            high = next + (product.word[i] < low);
        }
        product.add_carried(high);
        return product;
    }

    // The number times 2^(64 by), for a public `by` below L.
    __device__ Number turned_words(u32 by) const {
        Number turned = *this;
#pragma unroll
        for (int step = 1; step < L; step *= 2) {
            Number before = turned;
#pragma unroll
            for (int i = 0; i < L; i++) turned.word[i] = by & step ? before.word[(i + L - step) % L] : before.word[i];
        }
        return turned;
    }

    // The number times 2^by, for a public `by` below m.
    __device__ Number turned(u32 by) const {
        Number number = turned_words(by / 64), result;
        u32 shift = by % 64;
#pragma unroll
        for (int i = 0; i < L; i++) {
            u64 below = number.word[(i + L - 1) % L];
            result.word[i] = number.word[i] << shift | below >> 1 >> (63 - shift);
        }
        return result;
    }

    // 64 bits from bit `at` on, which is public.
    __device__ u64 window(u32 at) const { return turned((64 * L - at) % (64 * L)).word[0]; }

    // value * 2^at for a secret `at` below m.
    __device__ static Number placed(u64 value, u32 at) {
        Number number;
        u32 shift = at % 64, first = at / 64, next = (first + 1) % L;
        u64 low = value << shift, high = value >> 1 >> (63 - shift);
#pragma unroll
        for (int i = 0; i < L; i++) number.word[i] = (low & (0ULL - (u64)(i == first))) | (high & (0ULL - (u64)(i == next)));
        return number;
    }
};

// round(2^P 2^(fraction / 2^FRACTION)), from the series of the host.
__device__ inline u64 mantissa(u32 precision, u64 fraction) {
    u64 x = fraction << (64 - FRACTION), series = 0;
#pragma unroll
    for (int i = MANTISSA_TERMS - 1; i >= 0; i--) series = __umul64hi(MANTISSA_SERIES[i] + series, x);
    u64 rounded = series + (1ULL << (63 - precision));
    return (1ULL + (rounded < series)) << precision | rounded >> (64 - precision);
}

struct Rotations {
    u64* out;
    const u64* scores;
    const u64* exponents;
    u64* shares;
    const u64* sum_masks;
    u64* message;
    u32 elems, cols, words, drop, precision, offset, dropped, party;

    // What element `e` is an exponential of, in units of 2^-FRACTION: of values or of masks. The wire of exponents holds k / 2.
    __device__ u64 exponent(u32 e) const {
        u64 k = exponents ? exponents[e / cols] << (FRACTION + 1) : 0;
        return (scores[e] >> drop) - k;
    }

    template <int L>
    __device__ u32 whole(u64 exponent) const {
        return (u32)(exponent >> FRACTION) & (64 * L - 1);
    }

    // A party's share of the exponential of x_hat, before it is turned.
    template <int L>
    __device__ Number<L> product(u32 e, u64 x_hat) const {
        return Number<L>::read(shares + (u64)e * L).times(mantissa(precision, x_hat & ((1ULL << FRACTION) - 1)));
    }
};

// The seeded side's shares of beta into the explicit side's.
template <int L>
__device__ inline void deal_beta(const Rotations& job, u32 e) {
    u64 r = 0ULL - job.exponent(e);
    Number<L> beta = Number<L>::placed(mantissa(job.precision, r & ((1ULL << FRACTION) - 1)), job.whole<L>(r));
    u64* share = job.shares + (u64)e * L;
    beta.plus(Number<L>::read(share).negated()).canonical().write(share);
}

KERNEL deal_betas(const __grid_constant__ Rotations job) {
    u32 e = place();
    if (e >= job.elems) return;
    switch (job.words) {
        case 1: deal_beta<1>(job, e); break;
        case 2: deal_beta<2>(job, e); break;
        case 4: deal_beta<4>(job, e); break;
        case 8: deal_beta<8>(job, e); break;
        case 16: deal_beta<16>(job, e); break;
    }
}

// A party's share of the truncated exponential.
template <int L>
__device__ inline u64 truncated(const Rotations& job, u32 e) {
    u64 x_hat = job.exponent(e);
    u32 turn = (job.whole<L>(x_hat) + job.offset) & (64 * L - 1), at = (job.dropped - turn) & (64 * L - 1);
    Number<L> product = job.product<L>(e, x_hat);
    // Where e_1 is 0, M - e_1 is 0 too.
    return job.party == 0 ? product.canonical().window(at) : 0ULL - product.negated().canonical().window(at);
}

KERNEL exponentials(const __grid_constant__ Rotations job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 share = 0;
    switch (job.words) {
        case 2: share = truncated<2>(job, e); break;
        case 4: share = truncated<4>(job, e); break;
        case 8: share = truncated<8>(job, e); break;
        case 16: share = truncated<16>(job, e); break;
    }
    job.out[e] = share;
}

// A party's share of the sum of a row under its mask, a block for each row. Word i of a row stands at out[L row + i], and in the
// message behind the words i of the rows before.
template <int L>
__device__ inline void sum_row(const Rotations& job) {
    __shared__ u64 low[THREADS], high[THREADS];
    u64 sum[L];
    u32 over[L];
#pragma unroll
    for (int i = 0; i < L; i++) sum[i] = 0, over[i] = 0;
    for (u32 col = threadIdx.x; col < job.cols; col += THREADS) {
        u32 e = blockIdx.x * job.cols + col;
        u64 x_hat = job.exponent(e);
        u32 turn = (job.whole<L>(x_hat) + job.offset) & (64 * L - 1);
        Number<L> turned = job.product<L>(e, x_hat).turned(turn);
#pragma unroll
        for (int i = 0; i < L; i++) {
            sum[i] += turned.word[i];
            over[i] += sum[i] < turned.word[i];
        }
    }
    Number<L> number;
    u64 carried = 0;
#pragma unroll 1
    for (int i = 0; i < L; i++) {
        __syncthreads();
        // Which word is the same for all threads.
        u64 mine = 0, mine_over = 0;
#pragma unroll
        for (int j = 0; j < L; j++) mine = i == j ? sum[j] : mine, mine_over = i == j ? over[j] : mine_over;
        low[threadIdx.x] = mine, high[threadIdx.x] = mine_over;
        for (u32 half = THREADS / 2; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) {
                u64 one = low[threadIdx.x], both = one + low[threadIdx.x + half];
                low[threadIdx.x] = both;
                high[threadIdx.x] += high[threadIdx.x + half] + (both < one);
            }
        }
        if (threadIdx.x == 0) {
            u64 word = low[0] + carried;
            carried = high[0] + (word < low[0]);
#pragma unroll
            for (int j = 0; j < L; j++) number.word[j] = i == j ? word : number.word[j];
        }
    }
    if (threadIdx.x != 0) return;
    number.add_carried(carried);
    u32 rows = job.elems / job.cols, row = blockIdx.x;
    number = number.plus(Number<L>::read(job.sum_masks + (u64)row * L)).canonical();
    number.write(job.out + (u64)row * L);
#pragma unroll
    for (int i = 0; i < L; i++) job.message[(u64)i * rows + row] = number.word[i];
}

KERNEL row_sums(const __grid_constant__ Rotations job) {
    switch (job.words) {
        case 1: sum_row<1>(job); break;
        case 2: sum_row<2>(job); break;
        case 4: sum_row<4>(job); break;
        case 8: sum_row<8>(job); break;
    }
}

struct Points {
    u64* out;
    const u64* mine;
    const u64* theirs;
    u32 rows, words;
};

template <int L>
__device__ inline void add_numbers(const Points& job, u32 row) {
    u64 at = (u64)row * L;
    Number<L>::read(job.mine + at).plus(Number<L>::read(job.theirs + at)).canonical().write(job.out + at);
}

// Sums modulo M.
KERNEL add_modulo(const __grid_constant__ Points job) {
    u32 row = place();
    if (row >= job.rows) return;
    switch (job.words) {
        case 1: add_numbers<1>(job, row); break;
        case 2: add_numbers<2>(job, row); break;
        case 4: add_numbers<4>(job, row); break;
        case 8: add_numbers<8>(job, row); break;
    }
}
