//! One chunk on its way through the exchanges.

use std::collections::VecDeque;

use bytes::Bytes;
use suf_gate::{ChunkEval, StagedKey};
use suf_wire::Causal;

/// The state of one chunk.
#[derive(Default)]
pub(crate) struct Chunk {
    /// The client's shares, until they are used.
    pub(crate) shares: Option<Vec<u64>>,
    /// This party's half of x_hat, until the peer's is there.
    pub(crate) half: Option<Vec<u64>>,
    /// The public input, until it is loaded.
    pub(crate) x_hat: Option<Vec<u64>>,
    /// The key, until the input is there too.
    pub(crate) staged: Option<Box<dyn StagedKey>>,
    /// The evaluation, whenever it is not being computed on.
    pub(crate) eval: Option<Box<dyn ChunkEval>>,
    /// The public output, until its share is made.
    pub(crate) y_hat: Option<Vec<u64>>,
    /// Exchanges whose message was sent.
    pub(crate) sent: usize,
    /// Exchanges whose message of the peer arrived.
    pub(crate) received: usize,
    /// Whether the peer's half of x_hat arrived.
    pub(crate) opened: bool,
    /// The peer's half of x_hat, until it is used.
    pub(crate) opening: Option<Bytes>,
    /// Messages of the peer that wait to be used: at most two, because it needs ours to go on.
    pub(crate) inbox: VecDeque<(Causal, Bytes)>,
    /// The deepest frame that the evaluation has used.
    pub(crate) causal: Causal,
    /// Whether the key was asked for.
    pub(crate) key_asked: bool,
}
