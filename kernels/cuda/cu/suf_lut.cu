// `suf-lut`: the low bits are opened, and the look-up does the rest. See kernels/gate, suf_lut.rs.

KERNEL suf_lut_deal(const __grid_constant__ Job job) {
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    deal_lookup_tree(cipher, job, e, wire_mask(job.taken, e.index));
    if (e.live) deal_lookup_select(job, e.index, wire_mask(job.made, e.index));
}

KERNEL suf_lut_low(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    u64 masked = job.input[e.index] + packed_at(job.taken[0], e.index);
    put_packed<INDEX_BITS>(job, 0, e, masked);
    finished(job);
}

KERNEL suf_lut_sign(const __grid_constant__ Job job) {
    begun(job);
    __shared__ AesTable table;
    aes_fill(table);
    TreeCipher cipher = {table, job};
    Element e(job);
    share_lookup_sign(cipher, job, e, opened<INDEX_BITS>(job, 0, e.index));
    finished(job);
}

KERNEL suf_lut_output(const __grid_constant__ Job job) {
    begun(job);
    Element e(job);
    put_packed<WIRE_BITS>(job, 0, e, lookup_result(job, e.index));
    finished(job);
}
