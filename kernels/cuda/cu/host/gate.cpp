// Runs each of a gate's kernels once, on two warps, the second of them not full. Keys and messages are noise: which places the
// threads touch does not depend on their being right. What a kernel writes of its message must be the same on the GPU and on the
// host, and the host must learn of it. Stands after device.h, a gate's source and its list of KERNELS, of which the first DEALING
// are no exchange's.

// Bytes of each field, message and state: more than those of 64 elements of any gate.
#define ROOM (256 << 10)
#define ELEMS 50

int main() {
    static std::vector<std::vector<u64>> rooms;
    u64 noise = 0x9E3779B97F4A7C15;
    auto room = [&] {
        rooms.emplace_back(ROOM / sizeof(u64));
        for (u64& word : rooms.back()) {
            noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
            word = noise & WIRE_MASK;
        }
        return rooms.back().data();
    };
    auto bytes = [&] { return reinterpret_cast<u8*>(room()); };
    Job job = {};
    job.elems = ELEMS;
    job.plane_bytes = (ELEMS + 7) / 8;
    job.party = 1;
    for (auto& party : job.key) {
        for (u8*& field : party) field = bytes();
    }
    for (u8*& field : job.dealer) field = bytes();
    for (u8*& mask : job.taken) mask = bytes();
    for (u8*& mask : job.made) mask = bytes();
    job.wrap = bytes(), job.tops = bytes(), job.kept = 40;
    memcpy(job.node_keys, room(), sizeof job.node_keys);
    memcpy(job.leaf_keys, room(), sizeof job.leaf_keys);
    job.input = room();
    for (u64*& state : job.state) state = room();
    for (u32 i = 0; i < SEGMENTS; i++) {
        job.out[i] = bytes(), job.sent[i] = bytes();
        memcpy(job.sent[i], job.out[i], ROOM);
    }
    // Which segments have one bit depends on the kernel: all of them are written as if they had.
    job.bits = ~0u;
    for (const u8*& segment : job.mine) segment = bytes();
    for (const u8*& segment : job.theirs) segment = bytes();
    u32 ended = 0, ran = 0;
    Completion completion = {};
    job.ended = &ended, job.completion = &completion;
    for (auto kernel : KERNELS) {
        bool exchange = ran++ >= DEALING;
        if (exchange) job.exchange++;
        launch(2 * WARP, [&] { kernel(job); });
        if (!exchange) continue;
        bool same = ended == 0 && completion.exchanges == job.exchange + 1 && completion.start_ns <= completion.end_ns;
        for (u32 i = 0; i < SEGMENTS; i++) same &= memcmp(job.out[i], job.sent[i], ROOM) == 0;
        if (!same) {
            fprintf(stderr, "the host does not have the message of exchange %u\n", job.exchange);
            return 1;
        }
    }
}
