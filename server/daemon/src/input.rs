//! The client's share of an input, as it comes in over the control API.

use suf_control::{failure::CallFailure, limits::ELEMENTS_PER_MESSAGE, shares, v1};
use suf_party::{Event, RunFailure};
use suf_wire::{Fault, Part};
use tonic::Streaming;

use crate::{entry::Entry, tensor::Tensor};

/// An input that is being received. Dropping it early fails the run, with the reason in `stopped`.
pub(crate) struct Feeding<'a> {
    entry: &'a Entry,
    stopped: Option<String>,
}

impl<'a> Feeding<'a> {
    /// The input of `entry` begins to come.
    pub(crate) fn begin(entry: &'a Entry) -> Self {
        Self { entry, stopped: Some("its client ended the call".to_owned()) }
    }

    /// It is whole, or what stopped it is known.
    pub(crate) fn end(mut self, taken: &Result<u64, CallFailure>) {
        self.stopped = taken.as_ref().err().map(|failure| failure.reason.clone());
    }
}

impl Drop for Feeding<'_> {
    fn drop(&mut self) {
        if let (Some(reason), Some(active)) = (self.stopped.take(), self.entry.active()) {
            let reason = format!("the input of {} stopped: {reason}", self.entry.me());
            active.feed(Event::Failed(RunFailure::new(Fault::Caller, reason)));
        }
    }
}

/// Feeds an input of the run tile by tile, however the client cut its messages.
pub(crate) async fn take_input(
    entry: &Entry,
    input: &Tensor,
    parts: &mut Streaming<v1::InputPart>,
) -> Result<u64, CallFailure> {
    use v1::input_part::Part as Message;
    let (elems, bits) = (input.elems(), input.ring.bits());
    let mut taken = 0;
    let mut tile = 0;
    let mut gathered = Vec::with_capacity(ELEMENTS_PER_MESSAGE);
    while let Some(part) = parts.message().await? {
        let Some(Message::Shares(message)) = part.part else {
            return Err(CallFailure::caller("a header stands first and once"));
        };
        let before = gathered.len() as u64;
        shares::unpack_into(bits, &message, elems - taken + before, &mut gathered)?;
        taken += gathered.len() as u64 - before;
        while tile < input.tiles.count() && gathered.len() >= input.tiles.elems(tile) {
            let rest = gathered.split_off(input.tiles.elems(tile));
            let shares = std::mem::replace(&mut gathered, rest);
            let active = entry.active().ok_or_else(|| CallFailure::caller("the run is over"))?;
            active.feed(Event::Input { part: Part::new(input.node, tile), shares });
            entry.was_fed();
            tile += 1;
        }
    }
    if taken < elems {
        return Err(CallFailure::caller(format!("the input ended after {taken} of {elems} elements")));
    }
    Ok(taken)
}
