//! The parameters of the kernels of `cu/operations.cu`, `cu/exponent.cu` and `cu/comparison.cu`, in their order. Addresses are the GPU's; 0 is none. No member needs padding before
//! it but at the end.

use suf_gate::ops;

use crate::{cipher::RoundKeys, header::THREADS};

/// What a kernel is started with.
///
/// # Safety
/// The structure is laid out as the parameter of the kernel of that name.
pub(crate) unsafe trait Task {
    /// The kernel.
    const KERNEL: &'static str;

    /// Blocks of [`THREADS`] threads.
    fn blocks(&self) -> u32;
}

/// As the structure of that name in `cu/operations.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extended {
    ring: u32,
    drop: u32,
}

impl From<ops::Extended> for Extended {
    fn from(of: ops::Extended) -> Self {
        Self { ring: of.ring.bits().into(), drop: of.drop.into() }
    }
}

/// Entries into words.
#[repr(C)]
pub(crate) struct Unpacking {
    pub(crate) out: u64,
    pub(crate) from: u64,
    pub(crate) elems: u32,
    /// Bits of an entry.
    pub(crate) width: u32,
    /// Bits of a word that count.
    pub(crate) ring: u32,
    pub(crate) how: How,
}

/// What becomes of a word.
#[repr(u32)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// The entry.
    Set,
    /// Itself plus the entry.
    Add,
    /// Itself minus the entry.
    Subtract,
}

/// Words into entries.
#[repr(C)]
pub(crate) struct Packing {
    pub(crate) out: u64,
    pub(crate) from: u64,
    pub(crate) elems: u32,
    pub(crate) bits: u32,
}

/// An operation on each element alone.
#[repr(C)]
pub(crate) struct Local {
    pub(crate) out: u64,
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) factors: u64,
    pub(crate) bias: u64,
    pub(crate) elems: u32,
    pub(crate) cols: u32,
    /// Columns of what is taken, and the first of them that counts.
    pub(crate) taken_cols: u32,
    pub(crate) first: u32,
    pub(crate) ring: u32,
    pub(crate) what: What,
    pub(crate) shift: u32,
}

/// Which operation.
#[repr(u32)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// As it is.
    Copy,
    /// Plus another wire.
    Add,
    /// Shifted to the left.
    Shift,
    /// Shifted to the right.
    Drop,
    /// Times a factor of its column.
    Gain,
    /// Minus a value of its row.
    SubtractRow,
}

/// X W + b.
#[repr(C)]
pub(crate) struct Linear {
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    pub(crate) rows: u32,
    pub(crate) inner: u32,
    pub(crate) cols: u32,
    pub(crate) ring: u32,
}

/// Functions of masks.
#[repr(C)]
pub(crate) struct Pad {
    pub(crate) out: u64,
    pub(crate) r: u64,
    pub(crate) elems: u32,
    pub(crate) of: PadOf,
    pub(crate) from: Extended,
    pub(crate) to: u32,
}

/// Which function.
#[repr(u32)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum PadOf {
    /// `r >> d`.
    Quotient,
    /// The highest bit.
    Top,
    /// Their product.
    TopQuotient,
}

impl From<ops::PadOf> for PadOf {
    fn from(of: ops::PadOf) -> Self {
        match of {
            ops::PadOf::Quotient => Self::Quotient,
            ops::PadOf::Top => Self::Top,
            ops::PadOf::TopQuotient => Self::TopQuotient,
        }
    }
}

/// Shares of an extended wire.
#[repr(C)]
pub(crate) struct Opening {
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) masks: u64,
    pub(crate) wraps: u64,
    pub(crate) elems: u32,
    pub(crate) is_first: u32,
    pub(crate) from: Extended,
}

/// Products of two wires.
#[repr(C)]
pub(crate) struct Product {
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) y: u64,
    /// Shares of the masks of x and y. Without them x and y are multiplied as they are.
    pub(crate) r: u64,
    pub(crate) s: u64,
    pub(crate) products: u64,
    pub(crate) added: u64,
    pub(crate) elems: u32,
    /// Columns of what is made.
    pub(crate) cols: u32,
    pub(crate) kind: Kind,
    pub(crate) is_first: u32,
    pub(crate) heads: u32,
    pub(crate) tokens: u32,
    /// Columns of the tensors of tokens.
    pub(crate) width: u32,
    pub(crate) first_row: u32,
}

/// Which product.
#[repr(u32)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Element by element.
    Elements,
    /// A head's matrix times another's, transposed.
    Scores,
    /// Scores times a head's matrix.
    Mix,
}

/// A matrix times a value of each row, or one field of its key.
#[repr(C)]
pub(crate) struct Scale {
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) y: u64,
    pub(crate) mu: u64,
    pub(crate) c: u64,
    pub(crate) nu: u64,
    pub(crate) c_row: u64,
    pub(crate) mu_nu: u64,
    pub(crate) c_nu: u64,
    pub(crate) c_mu: u64,
    pub(crate) c_c: u64,
    pub(crate) elems: u32,
    pub(crate) cols: u32,
    pub(crate) is_first: u32,
    /// 0: the values belong to rows, not to rows of scores.
    pub(crate) heads: u32,
    pub(crate) tokens: u32,
    pub(crate) first_row: u32,
    /// Which field, and its ring.
    pub(crate) what: u32,
    pub(crate) ring: u32,
    pub(crate) matrix: Extended,
    pub(crate) values: Extended,
}

/// The dealer's fields of a scale, in the order of its key.
pub(crate) struct ScaleMasks(pub(crate) Scale);

/// Sums of the squares of rows.
#[repr(C)]
pub(crate) struct Squares {
    pub(crate) out: u64,
    pub(crate) x: u64,
    /// Shares. Without them the masks' squares are summed.
    pub(crate) mu: u64,
    pub(crate) c: u64,
    pub(crate) c_mu: u64,
    pub(crate) squares: u64,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) is_first: u32,
    pub(crate) ring: u32,
    pub(crate) from: Extended,
}

/// A wire that enters a gate.
#[repr(C)]
pub(crate) struct Entering {
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) elems: u32,
    pub(crate) is_extended: u32,
    pub(crate) from: Extended,
}

/// Products with a loaded matrix, which are added.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) out: u64,
    pub(crate) x: u64,
    /// A party's shares of the mask of x, and what was opened. Without them masks are multiplied.
    pub(crate) r: u64,
    pub(crate) opened: u64,
    pub(crate) masks: u64,
    pub(crate) chosen_rows: u64,
    pub(crate) chosen_cols: u64,
    pub(crate) rows: u32,
    pub(crate) inner: u32,
    pub(crate) cols: u32,
    /// Columns of the whole matrix.
    pub(crate) stride: u32,
    pub(crate) shift: u32,
    pub(crate) is_first: u32,
    pub(crate) is_one: u32,
    pub(crate) padding: u32,
}

/// The same, element by element.
pub(crate) struct Columns(pub(crate) Matrix);

/// Rotations of exponentials, of a tile of scores.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Rotations {
    pub(crate) out: u64,
    /// Scores and their rows' exponents, or the masks of both.
    pub(crate) scores: u64,
    pub(crate) exponents: u64,
    /// Shares of beta.
    pub(crate) shares: u64,
    pub(crate) sum_masks: u64,
    /// In the host's memory.
    pub(crate) message: u64,
    pub(crate) elems: u32,
    pub(crate) cols: u32,
    /// Words of a number.
    pub(crate) words: u32,
    pub(crate) drop: u32,
    pub(crate) precision: u32,
    pub(crate) offset: u32,
    pub(crate) dropped: u32,
    pub(crate) party: u32,
}

/// The dealer's shares of beta.
pub(crate) struct Betas(pub(crate) Rotations);

/// Truncated exponentials.
pub(crate) struct Exponentials(pub(crate) Rotations);

/// Sums of rows.
pub(crate) struct RowSums(pub(crate) Rotations);

/// Sums modulo M.
#[repr(C)]
pub(crate) struct Points {
    pub(crate) out: u64,
    pub(crate) mine: u64,
    pub(crate) theirs: u64,
    pub(crate) rows: u32,
    pub(crate) words: u32,
}

/// The trees of some rows.
#[repr(C)]
pub(crate) struct Trees {
    /// Both parties' when dealing, else the evaluating party's, first.
    pub(crate) roots: [u64; 2],
    pub(crate) nodes: u64,
    pub(crate) payloads: u64,
    pub(crate) node_keys: RoundKeys,
    pub(crate) leaf_keys: RoundKeys,
    pub(crate) levels: u32,
    pub(crate) payload_bytes: u32,
}

/// The words of trees.
#[repr(C)]
pub(crate) struct DealtTrees {
    pub(crate) trees: Trees,
    pub(crate) points: u64,
    /// r of payloads (1, r).
    pub(crate) values: u64,
    pub(crate) rows: u32,
    /// Words and bits of a point.
    pub(crate) words: u32,
    pub(crate) bits: u32,
}

/// Comparisons of sums of rows with powers of two.
#[repr(C)]
pub(crate) struct Powers {
    pub(crate) trees: Trees,
    pub(crate) out: u64,
    pub(crate) mine: u64,
    pub(crate) theirs: u64,
    pub(crate) base: u64,
    pub(crate) rows: u32,
    pub(crate) words: u32,
    pub(crate) party: u32,
    pub(crate) first: u32,
    pub(crate) end: u32,
}

/// Piecewise linear functions.
#[repr(C)]
pub(crate) struct Lines {
    pub(crate) trees: Trees,
    pub(crate) out: u64,
    pub(crate) x: u64,
    pub(crate) masks: u64,
    pub(crate) ends: u64,
    pub(crate) depths: u64,
    pub(crate) pieces: u64,
    /// Number of ends.
    pub(crate) count: u32,
    pub(crate) cut: u32,
    pub(crate) party: u32,
    pub(crate) elems: u32,
}

/// A thread for each of so many.
fn threads(count: u32) -> u32 {
    count.div_ceil(THREADS)
}

/// Words of 32 bits of so many entries.
fn packed_words(elems: u32, bits: u32) -> u32 {
    // A tile has 2^16 elements of at most 64 bits.
    (u64::from(elems) * u64::from(bits)).div_ceil(32) as u32
}

/// Rows and columns of a block of a product of matrices: BLOCK_ROWS and BLOCK_COLS.
const BLOCK: u32 = 64;

macro_rules! tasks {
    ($($task:ty, $kernel:literal, |$job:ident| $blocks:expr;)*) => {
        $(
            // SAFETY: the kernel's parameter is the structure above, member by member.
            unsafe impl Task for $task {
                const KERNEL: &'static str = $kernel;

                fn blocks(&self) -> u32 {
                    let $job = self;
                    $blocks
                }
            }
        )*

        /// All kernels.
        pub(crate) const KERNELS: &[&str] = &[$($kernel),*];
    };
}

tasks! {
    Unpacking, "unpack", |job| threads(job.elems);
    Packing, "pack", |job| threads(packed_words(job.elems, job.bits));
    Local, "local", |job| threads(job.elems);
    Linear, "linear", |job| job.rows.div_ceil(BLOCK) * job.cols.div_ceil(BLOCK);
    Pad, "pad", |job| threads(job.elems);
    Opening, "extend", |job| threads(job.elems);
    Product, "product", |job| threads(job.elems);
    Scale, "scale", |job| threads(job.elems);
    ScaleMasks, "scale_masks", |job| threads(job.0.elems);
    Squares, "square_sum", |job| job.rows;
    Entering, "enter", |job| threads(job.elems);
    Matrix, "private_rows", |job| job.rows.div_ceil(BLOCK) * job.cols.div_ceil(BLOCK);
    Columns, "private_columns", |job| threads(job.0.rows * job.0.cols);
    Betas, "deal_betas", |job| threads(job.0.elems);
    Exponentials, "exponentials", |job| threads(job.0.elems);
    RowSums, "row_sums", |job| job.0.elems / job.0.cols;
    Points, "add_modulo", |job| threads(job.rows);
    DealtTrees, "deal_trees", |job| threads(job.rows);
    Powers, "count_powers", |job| job.rows;
    Lines, "spline", |job| job.elems;
}
