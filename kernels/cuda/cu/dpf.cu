// `dpf`: two rounds from one half-tree. See kernels/gate, dpf.rs. Defined outside: SHIFT, the fields F_.., and what
// window.cuh and line.cuh want.

KERNEL dpf_deal(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    u64 r_in = wire_mask(job.taken, e.index), r_out = wire_mask(job.made, e.index);
    u64 alpha = ~(r_in >> SHIFT) & TREE_MASK;
    u64 by_p0 = deal_tree<HalfTree, TREE_LEVELS>(cipher, e, load_root(job.key[0][F_ROOT], e.index, 0),
                                                 load_root(job.key[1][F_ROOT], e.index, 1), alpha, job.key[0][F_SEED_CW],
                                                 job.key[0][F_LEAF_CW], [](u32, u32) {});
    if (!e.live) return;
    u64 rho = own_bit(job, F_SIGN_MASK, 0, e.index) ^ (r_in >> (SHIFT + TREE_BITS) & 1);
    u8* ring = explicit_field(job, F_RING);
    Line<false>::Elements shares(ring, e.index);
    Line<false>::subtract(shares, r_in, r_out, entry_mask(job, F_ENTRY_MASK, e.index), 2 * by_p0 - 1, 0, rho);
    shares.store(ring, e.index);
    Line<false>::subtract_wraps(job, e.index, rho);
}

KERNEL dpf_window(const __grid_constant__ Job job) {
    begun(job);
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    u64 v = job.input[e.index] >> SHIFT;
    Range range(~v & TREE_MASK);
    u32 shared = shared_levels(TOP, LEAF_BITS + WHOLE, range.apart());
    Corrections<TREE_LEVELS> cw = {job.key[0][F_SEED_CW], job.key[0][F_LEAF_CW], nullptr, nullptr, 0, e.index};
    uint4 fork[1] = {load_root(job.key[0][F_ROOT], e.index, job.party)};
    u32 passed[1] = {0};
    u64 point[1] = {range.start};
    walk<HalfTree, TREE_LEVELS, 1>(cipher, cw, fork, passed, point, 0, shared);
    Sums sums;
    u32 below = read_window(cipher, cw, fork[0], passed[0], shared, range, sums);

    // t is negative as its highest bit, that of r' and the borrow say; that of r' is in the mask. P0 takes what is public.
    u32 positive = below ^ (job.party == 0 ? 1 ^ (u32)(v >> TREE_BITS) : 0);
    put_message_bit(0, e, positive ^ key_bit(job, job.key[0][F_SIGN_MASK], 0, e.index));
    u64 share = entries(sums, WINDOW_LEAST);
    // P1's share is negated: where the leaves agree, the sums cancel.
    if (job.party == 1) share = 0 - share;
    share += reinterpret_cast<const u16*>(job.key[0][F_ENTRY_MASK])[e.index];
    put_packed<ENTRY_BITS>(job, 1, e, share);
    finished(job);
}

KERNEL dpf_output(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u32 pos = opened_bit(job, 0, e.index);
    u64 entry = opened<ENTRY_BITS>(job, 1, e.index);
    put_packed<WIRE_BITS>(job, 0, e, Line<false>::share(job, job.key[0][F_RING], e.index, entry, 1, pos));
    finished(job);
}
