//! The dealer, pure: requests in, keys out. No I/O, no clock, no entropy of its own.
//!
//! A [`Pairing`] pairs the two parties' requests: keys are made only when both ask for the same thing. A [`Batch`] then
//! makes one [`KeyPart`] for each party, part by part, so that memory does not grow with the batch.

mod batch;
mod pairing;

pub use batch::{Batch, Entropy};
pub use pairing::{Order, Pairing, Refusal, Standing};
pub use suf_wire::KeyPart;
