// A block of threads as fibers of the one thread that launches it. They take turns at barriers. So any number of blocks
// costs one thread each. Include this before device.h.

// Some compilers have the library check by default that a jump only leaves frames; these go from stack to stack.
#undef _FORTIFY_SOURCE

#include <csetjmp>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

// Fibers stay on their thread.
#define __shared__ static thread_local

// Warps of the largest block.
#define MOST_WARPS 32

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

// A barrier of the fibers that come to it.
struct Barrier {
    unsigned due, arrived, passed;
};

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    bool started, done;
};

// The block that this thread runs.
struct Block {
    static constexpr size_t STACK = 64 << 10;
    jmp_buf turns;
    Barrier whole, warps[MOST_WARPS];
    Fiber fibers[32 * MOST_WARPS];
    char* stacks;
    const void* job;
    void (*run)(const void* job);

    Block() {
        stacks = (char*)mmap(nullptr, STACK * 32 * MOST_WARPS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stacks == MAP_FAILED) abort();
    }
    ~Block() { munmap(stacks, STACK * 32 * MOST_WARPS); }
};
static thread_local std::unique_ptr<Block> block;

// Lets the block's other fibers go on.
static void yield() {
    if (!_setjmp(block->fibers[threadIdx.x].at)) _longjmp(block->turns, 1);
}

static void pass(Barrier& barrier) {
    unsigned before = barrier.passed;
    if (++barrier.arrived == barrier.due) {
        barrier.arrived = 0;
        barrier.passed++;
        return;
    }
    while (barrier.passed == before) yield();
}

static inline void __syncthreads() { pass(block->whole); }
static inline void __syncwarp() { pass(block->warps[threadIdx.x / 32]); }

static void fiber() {
    block->run(block->job);
    block->fibers[threadIdx.x].done = true;
    _longjmp(block->turns, 1);
}

// Gives fiber `index` a turn.
static void turn(unsigned index) {
    Fiber& it = block->fibers[index];
    threadIdx.x = index;
    if (_setjmp(block->turns)) return;
    if (it.started) _longjmp(it.at, 1);
    it.started = true;
    getcontext(&it.start);
    it.start.uc_stack.ss_sp = block->stacks + Block::STACK * index;
    it.start.uc_stack.ss_size = Block::STACK;
    makecontext(&it.start, fiber, 0);
    setcontext(&it.start);
}

// Runs `kernel` with `job`, its one parameter, on `blocks` blocks of `threads` threads, one after another.
template <typename Job>
static void launch(void (*kernel)(Job), unsigned blocks, unsigned threads, const void* job) {
    static thread_local void (*current)(Job);
    current = kernel;
    if (!block) block.reset(new Block);
    block->job = job;
    block->run = [](const void* job) { current(*(const Job*)job); };
    gridDim.x = blocks, blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        block->whole = {threads, 0, 0};
        for (unsigned warp = 0; warp < threads / 32; warp++) block->warps[warp] = {32, 0, 0};
        for (unsigned i = 0; i < threads; i++) block->fibers[i].started = block->fibers[i].done = false;
        for (unsigned left = threads; left > 0;) {
            left = 0;
            for (unsigned i = 0; i < threads; i++) {
                if (!block->fibers[i].done) turn(i);
                left += !block->fibers[i].done;
            }
        }
    }
}
