// The last exchange of `onehot` and `dpf`: y_hat = kappa x_hat + tau (m' - 2^(k-2)) + C + B. Its coefficients are ring
// elements of the key that public bits select: see kernels/cpu, line.rs and wrap.rs. Numbers are modulo 2^64. Defined
// outside: ENTRY_BITS (k), LEFT_SLOPE, LEFT_INTERCEPT, STEP_SLOPE, STEP_INTERCEPT (by how much the right line's exceed
// the left's), SLOPES (their sum).

template <bool HAS_DIGITS>
struct Line {
    // kappa_0, tau_0, tau_1, C_0, C_1, B_01, B_10, B_11; without digits kappa_0, s, C_0, C_1, B_1.
    static constexpr int COUNT = HAS_DIGITS ? 8 : 5;
    static constexpr int TAUS = HAS_DIGITS ? 2 : 1;
    using Elements = Row<COUNT * PACKED>;

    // Turns the seeded side's shares into the explicit side's. `a` masks the entry, `sign` is 1 or -1, `omega` and `rho`
    // mask w and pos.
    __device__ static void subtract(Elements& shares, u64 r_in, u64 r_out, u64 a, u64 sign, u64 omega, u64 rho) {
        // An opened pos of h stands for pos = h xor rho. Products with secret bits stand in for selections.
        u64 kappa[2], constant[2], tau[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            u64 pos = rho ^ h, w = omega ^ h;
            kappa[h] = LEFT_SLOPE + pos * STEP_SLOPE;
            constant[h] = LEFT_INTERCEPT + pos * STEP_INTERCEPT;
            tau[h] = HAS_DIGITS ? w * sign : sign;
        }
        // D = m' - 2^(k-2) + shift[q].
        u64 shift[2] = {(a >> (ENTRY_BITS - 1) << ENTRY_BITS) - a, 0 - a};
        u64 base = tau[0] * shift[0];
        int i = 0;
        auto put = [&](u64 value) {
            shares.put_packed_element(i, value - shares.packed_element(i));
            i++;
        };
        put(kappa[0]);
        put(tau[0]);
        if (HAS_DIGITS) put(tau[1]);
#pragma unroll
        for (int h = 0; h < 2; h++) put(constant[h] - kappa[h] * r_in + r_out + base);
        put(tau[0] * shift[1] - base);
        if (HAS_DIGITS) {
            put(tau[1] * shift[0] - base);
            put(tau[1] * shift[1] - base);
        }
    }

    // The same for what the wraps of an extended wire add: kappa[h] times the mask's highest bit, modulo 2^16. There is
    // one for an opened pos h of 0 and one for 1. Nothing if the wire is not extended.
    __device__ static void subtract_wraps(const Job& job, u32 e, u64 rho) {
        if (job.wrap == nullptr) return;
        Row<4> shares(job.wrap, e);
        u64 top = job.tops[e];
        u32 both = 0;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            u64 kappa = LEFT_SLOPE + (rho ^ h) * STEP_SLOPE;
            u32 share = shares.word[0] >> (16 * h);
            both |= (((u32)(kappa * top) - share) & 0xFFFF) << (16 * h);
        }
        shares.word[0] = both;
        shares.store(job.wrap, e);
    }

    // This party's share of y_hat, from the public x_hat, m, w and pos.
    __device__ static u64 share(const Job& job, const u8* field, u32 e, u64 entry, u32 w, u32 pos) {
        constexpr u64 QUARTER = 1ULL << (ENTRY_BITS - 2);
        u64 moved = (entry + QUARTER) & (4 * QUARTER - 1);
        u32 q = moved / (2 * QUARTER);
        const u8* row = field + (u64)e * COUNT * PACKED;
        u64 kappa_0 = packed_at(row, 0);
        u64 kappa = pos ? (job.party == 0 ? (u64)SLOPES : 0) - kappa_0 : kappa_0;
        u64 tau = packed_at(row, HAS_DIGITS ? 1 + w : 1);
        u64 c = packed_at(row, 1 + TAUS + pos);
        // B stands for [w, q] with w = q = 0 left out; without digits, for [q] with q = 0 left out.
        u32 select = HAS_DIGITS ? 2 * w + q : q;
        u64 b = select ? packed_at(row, 2 + TAUS + select) : 0;
        u64 x_hat = job.input[e], share = kappa * x_hat + tau * (moved - QUARTER) + c + b;
        if (job.wrap != nullptr) {
            // Bit 63 says whether the wrap counts; it lies above the ring.
            u64 wrap = reinterpret_cast<const u16*>(job.wrap)[2 * e + pos];
            share += (x_hat >> 63) * wrap << job.kept;
        }
        return share;
    }
};

// a, the sum of both parties' masks of the entry.
__device__ inline u64 entry_mask(const Job& job, u32 field, u32 e) {
    const u16* p0 = reinterpret_cast<const u16*>(job.key[0][field]);
    const u16* p1 = reinterpret_cast<const u16*>(job.key[1][field]);
    return (u32)(p0[e] + p1[e]) & ((1u << ENTRY_BITS) - 1);
}
