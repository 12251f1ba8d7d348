// Expands a few streams of several spans, on one block. Stands after device.h and streams.cu.

#define STREAMS 3

int main() {
    static uint4 out[STREAMS][4 * STREAM_THREADS];
    static Expansion table[STREAMS];
    Streams job = {table, STREAMS, 0};
    for (u32 i = 0; i < STREAMS; i++) {
        u32 blocks = (i + 1) * STREAM_THREADS + 5;
        table[i] = {{i, 1, 2, 3}, {4, 5, 6, i}, out[i], job.spans, blocks};
        job.spans += i + 2;
    }
    launch(STREAM_THREADS, [&] { streams(job); });
}
