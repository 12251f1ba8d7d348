// Operations on whole wires, a word of 64 bits for each element. Rings, sizes and weights are parameters: all programs have
// the same kernels. The structures are those of src/ops/tasks.rs.

// The low `bits` bits, 1 to 64.
__device__ inline u64 low_bits(u32 bits) { return ~0ULL >> (64 - bits); }

// Where this thread stands in the whole grid.
__device__ inline u32 place() { return blockIdx.x * THREADS + threadIdx.x; }

// Entry `e` of entries of `width` bits that stand one after another. Whole words are read: a field has three words of room behind it.
__device__ inline u64 entry(const u32* words, u32 e, u32 width) {
    u64 bit = (u64)e * width;
    const u32* from = words + bit / 32;
    u32 shift = bit % 32;
    u64 value = ((u64)from[1] << 32 | from[0]) >> shift;
    if (shift + width > 64) value |= (u64)from[2] << (64 - shift);
    return value & low_bits(width);
}

struct Unpacking {
    u64* out;
    const u32* from;
    u32 elems, width, ring, how;
};

// Entries into words modulo 2^ring: as they are, added to what is there, or subtracted from it.
KERNEL unpack(const __grid_constant__ Unpacking job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 value = entry(job.from, e, job.width);
    if (job.how == UNPACK_ADD) value = job.out[e] + value;
    if (job.how == UNPACK_SUBTRACT) value = job.out[e] - value;
    job.out[e] = value & low_bits(job.ring);
}

struct Packing {
    u32* out;
    const u64* from;
    u32 elems, bits;
};

// Words to entries of `bits` bits, one after another; bits beyond the last are zero. A thread for each word that is written.
KERNEL pack(const __grid_constant__ Packing job) {
    u64 first = (u64)place() * 32, end = (u64)job.elems * job.bits;
    if (first >= end) return;
    u32 word = 0;
    for (u64 e = first / job.bits; e * job.bits < first + 32 && e < job.elems; e++) {
        u64 value = job.from[e] & low_bits(job.bits), at = e * job.bits;
        word |= at < first ? (u32)(value >> (first - at)) : (u32)value << (at - first);
    }
    job.out[place()] = word;
}

struct Local {
    u64* out;
    const u64* a;
    const u64* b;
    const int* factors;
    const long long* bias;
    u32 elems, cols, taken_cols, first, ring, what, shift;
};

// What a party does alone with each element.
KERNEL local(const __grid_constant__ Local job) {
    u32 e = place();
    if (e >= job.elems) return;
    u32 row = e / job.cols, col = e % job.cols;
    u64 a = job.a[row * job.taken_cols + job.first + col];
    if (job.what == LOCAL_ADD) a += job.b[e];
    if (job.what == LOCAL_SHIFT) a <<= job.shift;
    if (job.what == LOCAL_DROP) a >>= job.shift;
    if (job.what == LOCAL_GAIN) a *= (u64)(long long)job.factors[col];
    if (job.what == LOCAL_SUBTRACT_ROW) a -= job.b[row];
    if (job.bias) a += (u64)job.bias[col];
    job.out[e] = a & low_bits(job.ring);
}

// Rows and columns of the part of a product that a block makes, and terms at a time. A thread makes 4 x 4 of them.
#define BLOCK_ROWS 64
#define BLOCK_COLS 64
#define BLOCK_TERMS 16

struct Sums {
    u64 sum[4][4];

    __device__ Sums() {
#pragma unroll
        for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0;
    }

    // Adds the products of a block's terms.
    __device__ void add(const u64 (&x)[BLOCK_TERMS][BLOCK_ROWS], const u64 (&y)[BLOCK_TERMS][BLOCK_COLS], u32 row, u32 col) {
#pragma unroll 4
        for (int k = 0; k < BLOCK_TERMS; k++) {
            u64 left[4], right[4];
#pragma unroll
            for (int i = 0; i < 4; i++) left[i] = x[k][row + 16 * i], right[i] = y[k][col + 16 * i];
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += left[i] * right[j];
            }
        }
    }
};

struct Linear {
    u64* out;
    const u64* x;
    const int* weights;
    const long long* bias;
    u32 rows, inner, cols, ring;
};

// X W + b.
KERNEL linear(const __grid_constant__ Linear job) {
    __shared__ u64 x[BLOCK_TERMS][BLOCK_ROWS], y[BLOCK_TERMS][BLOCK_COLS];
    u32 blocks = (job.cols + BLOCK_COLS - 1) / BLOCK_COLS;
    u32 first_row = blockIdx.x / blocks * BLOCK_ROWS, first_col = blockIdx.x % blocks * BLOCK_COLS;
    u32 row = threadIdx.x / 16, col = threadIdx.x % 16;
    Sums sums;
    for (u32 first = 0; first < job.inner; first += BLOCK_TERMS) {
        for (u32 i = threadIdx.x; i < BLOCK_TERMS * BLOCK_ROWS; i += THREADS) {
            u32 k = first + i % BLOCK_TERMS, r = first_row + i / BLOCK_TERMS;
            x[i % BLOCK_TERMS][i / BLOCK_TERMS] = k < job.inner && r < job.rows ? job.x[(u64)r * job.inner + k] : 0;
        }
        for (u32 i = threadIdx.x; i < BLOCK_TERMS * BLOCK_COLS; i += THREADS) {
            u32 k = first + i / BLOCK_COLS, c = first_col + i % BLOCK_COLS;
            long long weight = k < job.inner && c < job.cols ? job.weights[(u64)k * job.cols + c] : 0;
            y[i / BLOCK_COLS][i % BLOCK_COLS] = (u64)weight;
        }
        __syncthreads();
        sums.add(x, y, row, col);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        u32 r = first_row + row + 16 * (i / 4), c = first_col + col + 16 * (i % 4);
        if (r >= job.rows || c >= job.cols) continue;
        u64 bias = job.bias ? (u64)job.bias[c] : 0;
        job.out[(u64)r * job.cols + c] = (sums.sum[i / 4][i % 4] + bias) & low_bits(job.ring);
    }
}

struct Extended {
    u32 ring, drop;

    __device__ u32 kept() const { return ring - drop; }

    // T and p of an element.
    __device__ u64 moved(u64 x_hat, u64& may_wrap) const {
        u64 quarter = 1ULL << (ring - 2);
        u64 u = (x_hat + quarter) & low_bits(ring);
        may_wrap = 1 - (u >> (ring - 1));
        return (u >> drop) - (quarter >> drop);
    }

    __device__ u64 quotient(u64 r) const { return r >> drop; }
    __device__ u64 top(u64 r) const { return r >> (ring - 1); }
};

// value * 2^bits, also for 64 bits and more.
__device__ inline u64 up(u64 value, u32 bits) { return bits < 64 ? value << bits : 0; }

struct Pad {
    u64* out;
    const u64* r;
    u32 elems, of;
    Extended from;
    u32 to;
};

// Functions of masks.
KERNEL pad(const __grid_constant__ Pad job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 quotient = job.from.quotient(job.r[e]), top = job.from.top(job.r[e]);
    u64 value = job.of == PAD_QUOTIENT ? quotient : job.of == PAD_TOP ? top : top * quotient;
    job.out[e] = value & low_bits(job.to);
}

struct Opening {
    u64* out;
    const u64* x;
    const u64* masks;
    const u64* wraps;
    u32 elems, is_first;
    Extended from;
};

// A party's share of x >> d.
KERNEL extend(const __grid_constant__ Opening job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 may_wrap, moved = job.from.moved(job.x[e], may_wrap);
    u64 wrap = job.wraps ? up(job.wraps[e] * may_wrap, job.from.kept()) : 0;
    job.out[e] = job.is_first * moved - job.masks[e] + wrap;
}

struct Product {
    u64* out;
    const u64* x;
    const u64* y;
    const u64* r;
    const u64* s;
    const u64* products;
    const u64* added;
    u32 elems, cols, kind, is_first, heads, tokens, width, first_row;
};

// Products of two wires of which this party has shares of the masks; or, without these, of two tensors as they are. `first_row` is
// the part's first row, and x and y begin with the sequence of that row.
KERNEL product(const __grid_constant__ Product job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 sum = job.products ? job.products[e] : 0;
    u32 count = 1, left = e, right = e, left_step = 0, right_step = 0;
    u32 row = job.first_row + e / job.cols, col = e % job.cols, tokens = job.tokens;
    if (job.kind == PRODUCT_SCORES) {
        u32 of_sequence = job.heads * tokens, sequence = row / of_sequence - job.first_row / of_sequence;
        u32 head = row / tokens % job.heads, dim = job.width / job.heads;
        left = (sequence * tokens + row % tokens) * job.width + head * dim;
        right = (sequence * tokens + col) * job.width + head * dim;
        count = dim, left_step = 1, right_step = 1;
        if (job.added) sum += job.added[sequence * tokens + col];
    } else if (job.kind == PRODUCT_MIX) {
        u32 sequence = row / tokens - job.first_row / tokens, head = col / (job.width / job.heads);
        left = ((sequence * job.heads + head) * tokens + row % tokens) * tokens;
        right = sequence * tokens * job.width + col;
        count = tokens, left_step = 1, right_step = job.width;
    }
    for (u32 i = 0; i < count; i++, left += left_step, right += right_step) {
        u64 x = job.x[left], y = job.y[right];
        if (job.r) {
            sum += x * (job.is_first * y - job.s[right]) - job.r[left] * y;
        } else {
            sum += x * y;
        }
    }
    job.out[e] = sum;
}

struct Scale {
    u64* out;
    const u64* x;
    const u64* y;
    const u64* mu;
    const u64* c;
    const u64* nu;
    const u64* c_row;
    const u64* mu_nu;
    const u64* c_nu;
    const u64* c_mu;
    const u64* c_c;
    u32 elems, cols, is_first, heads, tokens, first_row, what, ring;
    Extended matrix, values;

    // The place of the value that belongs to element `e`.
    __device__ u32 value(u32 e) const {
        u32 row = e / cols;
        if (heads == 0) return row;
        row += first_row;
        u32 head = e % cols / (cols / heads);
        return ((row / tokens - first_row / tokens) * heads + head) * tokens + row % tokens;
    }
};

// A party's share of a matrix times a value of each row.
KERNEL scale(const __grid_constant__ Scale job) {
    u32 e = place();
    if (e >= job.elems) return;
    u32 at = job.value(e), a = job.matrix.kept(), b = job.values.kept();
    u64 p, p_row, t = job.matrix.moved(job.x[e], p), t_row = job.values.moved(job.y[at], p_row);
    u64 y = job.is_first * t_row - job.nu[at] + up(p_row * job.c_row[at], b);
    u64 top = t_row * job.c[e] - job.c_nu[e];
    u64 both = job.c_c ? up(p_row * job.c_c[e], a + b) : 0;
    job.out[e] = t * y - (t_row * job.mu[e] - job.mu_nu[e]) - up(p_row * job.c_mu[e], b) + p * (up(top, a) + both);
}

// One field of the dealer's: a function of the masks in x and y.
KERNEL scale_masks(const __grid_constant__ Scale job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 r = job.x[e], s = job.y[job.value(e)];
    u64 left = job.what == SCALE_MU_NU || job.what == SCALE_C_MU ? job.matrix.quotient(r) : job.matrix.top(r);
    u64 right = job.what == SCALE_MU_NU || job.what == SCALE_C_NU ? job.values.quotient(s) : job.values.top(s);
    job.out[e] = left * right & low_bits(job.ring);
}

struct Squares {
    u64* out;
    const u64* x;
    const u64* mu;
    const u64* c;
    const u64* c_mu;
    const u64* squares;
    u32 rows, cols, is_first, ring;
    Extended from;
};

// The sums of a block's threads, of which thread 0 has all.
__device__ inline u64 block_sum(u64 value) {
    __shared__ u64 sums[THREADS];
    sums[threadIdx.x] = value;
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[0];
}

// A party's shares of sums of squares, a block for each row; or, without shares, the dealer's sums of mu^2.
KERNEL square_sum(const __grid_constant__ Squares job) {
    u32 a = job.from.kept();
    u64 sum = 0;
#pragma unroll 1
    for (u32 col = threadIdx.x; col < job.cols; col += THREADS) {
        u32 e = blockIdx.x * job.cols + col;
        if (!job.mu) {
            u64 mu = job.from.quotient(job.x[e]);
            sum += mu * mu;
            continue;
        }
        u64 p, t = job.from.moved(job.x[e], p), c = job.c[e];
        sum += t * (job.is_first * t - (job.mu[e] << 1));
        sum += p * (up(t * c - job.c_mu[e], a + 1) + up(up(c, a), a));
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) job.out[blockIdx.x] = (job.squares ? job.squares[blockIdx.x] : 0) + sum & low_bits(job.ring);
}

struct Entering {
    u64* out;
    const u64* x;
    u32 elems, is_extended;
    Extended from;
};

// A wire as a gate takes it: see `Job::input`.
KERNEL enter(const __grid_constant__ Entering job) {
    u32 e = place();
    if (e >= job.elems) return;
    u64 may_wrap = 0, moved = job.is_extended ? job.from.moved(job.x[e], may_wrap) : job.x[e] >> job.from.drop;
    job.out[e] = moved & WIRE_MASK | may_wrap << 63;
}

struct Matrix {
    u64* out;
    const u64* x;
    // Shares of the mask of x. Without them the dealer multiplies masks.
    const u64* r;
    const u64* opened;
    const u64* masks;
    // The rows and columns of the matrix that count.
    const u32* chosen_rows;
    const u32* chosen_cols;
    u32 rows, inner, cols, stride, shift, is_first, is_one, padding;

    // What x is multiplied by, at row k and column c of what is chosen.
    __device__ u64 left_of(u32 k, u32 c, u64& opened_here) const {
        u64 at = (u64)chosen_rows[k] * stride + chosen_cols[c];
        opened_here = opened ? opened[at] : 0;
        return opened ? is_first * opened_here - masks[at] : masks[at];
    }
};

// Adds the product with a loaded matrix: x (1[party 0] W_hat - R) - r W_hat.
KERNEL private_rows(const __grid_constant__ Matrix job) {
    __shared__ u64 x[BLOCK_TERMS][BLOCK_ROWS], r[BLOCK_TERMS][BLOCK_ROWS];
    __shared__ u64 y[BLOCK_TERMS][BLOCK_COLS], w[BLOCK_TERMS][BLOCK_COLS];
    u32 blocks = (job.cols + BLOCK_COLS - 1) / BLOCK_COLS;
    u32 first_row = blockIdx.x / blocks * BLOCK_ROWS, first_col = blockIdx.x % blocks * BLOCK_COLS;
    u32 row = threadIdx.x / 16, col = threadIdx.x % 16;
    Sums sums;
    for (u32 first = 0; first < job.inner; first += BLOCK_TERMS) {
        for (u32 i = threadIdx.x; i < BLOCK_TERMS * BLOCK_ROWS; i += THREADS) {
            u32 k = first + i % BLOCK_TERMS, at = first_row + i / BLOCK_TERMS;
            bool is_there = k < job.inner && at < job.rows;
            x[i % BLOCK_TERMS][i / BLOCK_TERMS] = is_there ? job.x[(u64)at * job.inner + k] << job.shift : 0;
            r[i % BLOCK_TERMS][i / BLOCK_TERMS] = is_there && job.r ? 0 - (job.r[(u64)at * job.inner + k] << job.shift) : 0;
        }
        for (u32 i = threadIdx.x; i < BLOCK_TERMS * BLOCK_COLS; i += THREADS) {
            u32 k = first + i / BLOCK_COLS, c = first_col + i % BLOCK_COLS;
            u64 opened = 0, left = k < job.inner && c < job.cols ? job.left_of(k, c, opened) : 0;
            y[i / BLOCK_COLS][i % BLOCK_COLS] = left, w[i / BLOCK_COLS][i % BLOCK_COLS] = opened;
        }
        __syncthreads();
        sums.add(x, y, row, col);
        if (job.r) sums.add(r, w, row, col);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        u32 at = first_row + row + 16 * (i / 4), c = first_col + col + 16 * (i % 4);
        if (at < job.rows && c < job.cols) job.out[(u64)at * job.cols + c] += sums.sum[i / 4][i % 4];
    }
}

// The same of each element with a matrix of one row; or, of one, the row itself.
KERNEL private_columns(const __grid_constant__ Matrix job) {
    u32 e = place();
    if (e >= job.rows * job.cols) return;
    u64 opened, left = job.left_of(0, e % job.cols, opened);
    u64 sum = job.is_one ? left : (job.x[e] << job.shift) * left;
    if (job.r) sum -= (job.r[e] << job.shift) * opened;
    job.out[e] += sum;
}
