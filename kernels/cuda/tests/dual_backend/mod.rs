//! Two backends as one that asserts that they agree: each call goes to both, and every key, message and value must be the
//! same bytes. Errors must come from both.

use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{
    Backend, BackendError, BackendInfo, DealJob, EvalJob, HostValue, KeyBytes, Part, PartEval, Party,
    SecretBytes, Span, StagedPart, Value, secret::SecretMemory,
};

/// Two backends. What comes out is the first one's, which is the second one's as well; records name the second.
pub(crate) struct DualBackend {
    first: Arc<dyn Backend>,
    second: Arc<dyn Backend>,
}

impl DualBackend {
    /// Compares `second` with `first`.
    pub(crate) fn new(first: Arc<dyn Backend>, second: Arc<dyn Backend>) -> Self {
        Self { first, second }
    }
}

impl Backend for DualBackend {
    fn info(&self) -> BackendInfo {
        self.second.info()
    }

    fn deal(&self, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        let what = format!("{}, {}", job.node().op().def().name(), place(job.part, job.elems()));
        let [first, second] = both(&what, self.first.deal(job), self.second.deal(job))?;
        for (party, (first, second)) in first.iter().zip(&second).enumerate() {
            assert_bytes(first.expose(), second.expose(), &format!("{what}: key of party {party}"));
        }
        Ok(first)
    }

    fn stage(&self, job: &EvalJob, key: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
        let node = job.node().op().def().name();
        let what = format!("{node}, {}, party {}", place(job.part, job.elems()), job.party.index());
        let room = (job.party == Party::P0).then(|| self.second.message_room(largest_message(job)));
        let parts = both(&what, self.first.stage(job, key.clone()), self.second.stage(job, key))?;
        Ok(Box::new(DualStaged { what, parts, room: room.flatten() }))
    }

    fn check(&self) -> Result<(), BackendError> {
        self.first.check().and_then(|()| self.second.check())
    }

    fn message_room(&self, bytes: usize) -> Option<Box<dyn SecretMemory>> {
        self.second.message_room(bytes)
    }
}

struct DualStaged {
    what: String,
    parts: [Box<dyn StagedPart>; 2],
    room: Option<Box<dyn SecretMemory>>,
}

impl StagedPart for DualStaged {
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        let Self { what, parts: [first, second], room } = *self;
        let evals = both(&what, first.begin(inputs.clone()), second.begin(inputs))?;
        Ok(Box::new(DualEval { what, evals, room }))
    }
}

struct DualEval {
    what: String,
    evals: [Box<dyn PartEval>; 2],
    /// The second one's memory for the peer's messages. One party takes them from there, the other from the heap.
    room: Option<Box<dyn SecretMemory>>,
}

impl PartEval for DualEval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let what = format!("{}: exchange {step}", self.what);
        let [one, other] = &mut self.evals;
        let first = one.step(step, incoming);
        let second = match &mut self.room {
            Some(room) if incoming.len() <= room.as_ref().as_ref().len() => {
                let place = &mut room.as_mut().as_mut()[..incoming.len()];
                place.copy_from_slice(incoming);
                let sent = other.step(step, place);
                // Nothing reads it after that.
                room.as_mut().as_mut().fill(0xA5);
                sent
            }
            _ => other.step(step, incoming),
        };
        let [first, second] = both(&what, first, second)?;
        assert_bytes(&first, &second, &what);
        Ok(first)
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let what = format!("{}: value", self.what);
        let [one, other] = &mut self.evals;
        let [first, second] = both(&what, one.finish(incoming), other.finish(incoming))?;
        assert_eq!(first.elems(), second.elems(), "{what}: elements");
        let [first, second] = both(&what, first.words(), second.words())?;
        if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
            panic!("{what}: element {at} differs: {:#x} and {:#x}", first[at], second[at]);
        }
        assert_eq!(first.len(), second.len(), "{what}: length");
        Ok(HostValue::shared(first))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        let [one, other] = &mut self.evals;
        drop(one.take_spans());
        other.take_spans()
    }

    fn is_prompt(&self) -> bool {
        self.evals[1].is_prompt()
    }
}

fn place(part: Part, elems: usize) -> String {
    format!("node {}, tile {}, {elems} elements", part.node.index(), part.tile)
}

fn largest_message(job: &EvalJob) -> usize {
    (0..job.node().exchanges())
        .filter_map(|step| job.program.message_bytes(job.part, step))
        .max()
        .unwrap_or(0)
}

/// What both made, or the first one's error if both failed.
fn both<T>(
    what: &str,
    first: Result<T, BackendError>,
    second: Result<T, BackendError>,
) -> Result<[T; 2], BackendError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok([first, second]),
        (Err(first), Err(_)) => Err(first),
        (Err(error), Ok(_)) => panic!("{what}: only the first backend failed: {error}"),
        (Ok(_), Err(error)) => panic!("{what}: only the second backend failed: {error}"),
    }
}

/// Asserts that the bytes are the same, and says where they are not.
pub(crate) fn assert_bytes(first: &[u8], second: &[u8], what: &str) {
    assert_eq!(first.len(), second.len(), "{what}: length");
    let apart = first.iter().zip(second).filter(|(a, b)| a != b).count();
    if let Some(at) = first.iter().zip(second).position(|(a, b)| a != b) {
        let (len, first, second) = (first.len(), first[at], second[at]);
        panic!("{what}: {apart} of {len} bytes differ, the first at {at}: {first:#04x} and {second:#04x}");
    }
}
