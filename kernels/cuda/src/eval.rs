//! A chunk's evaluation on the GPU: one upload, one kernel and one download for each exchange. The GPU writes a message
//! to where it is sent from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use suf_gate::{
    Activity, BackendError, ChunkEval, EvalJob, Input, KeyBytes, Role, Source, Span, StagedKey,
    layout::{R_IN, R_OUT},
};

use crate::{
    backend::{self, Kernels, Shared},
    driver::Stream,
    layout::{self, Job, Layout, Message, STATES, TABLE_BYTES},
    memory::{MARKS, Pinned, Slot},
    opening,
};

/// A chunk's key on the GPU: uploaded, and what is not delivered expanded.
pub(crate) struct Staged {
    shared: Arc<Shared>,
    kernels: Arc<Kernels>,
    eval: EvalJob,
    slot: Slot,
    job: Job,
    rooms: Rooms,
    messages: Vec<Message>,
    /// Memory for the message of each exchange that is not made yet, the last one first: the exchanges allocate nothing.
    outgoing: Vec<Pinned>,
    /// The table of streams and the delivered key, until they are on the GPU.
    key: Option<Pinned>,
    lengths: Vec<usize>,
}

/// Where the rest of a chunk stands in the slot, and in its pinned memory.
#[derive(Clone, Copy, Debug)]
struct Rooms {
    input: usize,
    /// Messages in turn: this party's of the exchange before, and the one in the making.
    messages: [usize; 2],
    incoming: usize,
}

impl Staged {
    /// Queues the upload of `key` and the expansion of the rest.
    pub(crate) fn new(shared: Arc<Shared>, eval: &EvalJob, key: &KeyBytes) -> Result<Self, BackendError> {
        let (gate, elems) = (&eval.gate, eval.elems);
        let shape = gate.key_shape();
        let role = eval.party.role(eval.chunk);
        if key.len() != shape.chunk_bytes(role, elems) {
            return Err(BackendError::Misuse("a key of another length than the layout's"));
        }
        let kernels = shared.kernels(gate)?;

        let mut layout = Layout::from(TABLE_BYTES);
        let places = layout.fields(shape, role, elems, role == Role::Seeded);
        let delivered = places.iter().filter(|place| place.packed.is_some());
        let key_end = delivered.map(|place| place.at + place.bytes).max().unwrap_or(TABLE_BYTES);
        let messages: Vec<_> =
            gate.exchanges().iter().map(|segments| Message::new(segments, elems)).collect();
        let largest = messages.iter().map(|message| message.room).max().unwrap_or(0);
        let words = 8 * elems;
        let input = layout.take(words);
        let states: [usize; STATES] = std::array::from_fn(|_| layout.take(words));
        let rooms = Rooms {
            input,
            messages: [layout.take(largest), layout.take(largest)],
            incoming: layout.take(largest),
        };

        // The input's room is the incoming messages' afterwards.
        let slot = shared.memory.slot(layout.end(), words.max(largest))?;
        let outgoing = messages.iter().rev().map(|message| shared.memory.pinned(message.bytes));
        let outgoing = outgoing.collect::<Result<Vec<_>, _>>()?;
        let mut pinned_key = shared.memory.pinned(key_end)?;
        let mut job = Job {
            elems: elems as u32,
            plane_bytes: elems.div_ceil(8) as u32,
            party: eval.party.index() as u32,
            seeded: layout::seeded(eval.chunk).index() as u32,
            input: slot.at(input),
            state: states.map(|at| slot.at(at)),
            ..Job::default()
        };
        let mut streams = Vec::new();
        for place in &places {
            job.key[0][usize::from(place.id.0)] = slot.at(place.at);
            match &place.packed {
                Some(range) => {
                    let to = place.at..place.at + place.bytes;
                    pinned_key.bytes_mut()[to].copy_from_slice(&key.expose()[range.clone()]);
                }
                None => {
                    let is_mask = place.id == R_IN || place.id == R_OUT;
                    let wanted = !is_mask || backend::wants_mask(gate, place.id);
                    if wanted && shape.field(place.id).source != Source::Dealer {
                        let key = backend::eval_key(eval, place.id);
                        streams.push(layout::Stream { key, to: place.at, bytes: place.bytes });
                    }
                }
            }
        }
        backend::put_streams(slot.at(0), pinned_key.bytes_mut(), &streams)?;
        let lengths = streams.iter().map(|stream| stream.bytes).collect();
        let key = Some(pinned_key);
        let staged =
            Self { shared, kernels, eval: eval.clone(), slot, job, rooms, messages, outgoing, key, lengths };
        staged.upload(staged.slot.stream())?;
        staged.expand(staged.slot.stream())?;
        Ok(staged)
    }

    /// Queues the upload of the key, while it is in the host's memory.
    pub(crate) fn upload(&self, on: &Stream) -> Result<(), BackendError> {
        self.key.as_ref().map_or(Ok(()), |key| self.slot.upload_from(on, key, 0))
    }

    /// Waits until the key is on the GPU, and wipes the host's copy.
    pub(crate) fn settle(mut self) -> Result<Self, BackendError> {
        self.wait()?;
        self.key = None;
        Ok(self)
    }

    /// Queues the expansion of what was not delivered.
    pub(crate) fn expand(&self, on: &Stream) -> Result<(), BackendError> {
        self.shared.expand(&self.slot, on, &self.lengths)
    }

    /// Waits until everything queued on the chunk's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.slot.stream().wait()
    }

    /// Elements of the chunk.
    pub(crate) fn elems(&self) -> usize {
        self.eval.elems
    }

    /// Bytes of the upload, and bytes that are expanded.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let uploaded = self.key.as_ref().map_or(0, |key| key.bytes().len());
        (uploaded.saturating_sub(TABLE_BYTES), self.lengths.iter().sum())
    }

    /// Queues the upload of the input.
    pub(crate) fn evaluate(mut self, input: Input) -> Result<Eval, BackendError> {
        if matches!(input, Input::Shares(_)) != self.eval.gate.takes_shares() {
            return Err(BackendError::Misuse("shares where the gate takes the wire, or the other way round"));
        }
        let (Input::Wire(words) | Input::Shares(words)) = input;
        if words.len() != self.eval.elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        self.shared.device.bind()?;
        let place = &mut self.slot.pinned.bytes_mut()[..8 * words.len()];
        for (place, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(&words) {
            *place = word.to_le_bytes();
        }
        self.slot.upload(0, self.rooms.input, 8 * words.len())?;
        Ok(Eval { chunk: self, words, sent: 0, last: Bytes::new(), spans: Vec::new() })
    }
}

impl StagedKey for Staged {
    fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError> {
        let eval = self.evaluate(input)?;
        eval.wait()?;
        Ok(Box::new(eval))
    }
}

/// A chunk in evaluation.
pub(crate) struct Eval {
    chunk: Staged,
    /// The input, whose place the output takes.
    words: Vec<u64>,
    /// Exchanges whose message has been made.
    sent: usize,
    /// The message that was made last.
    last: Bytes,
    spans: Vec<Span>,
}

/// What happens between a mark of the chunk's stream and the next.
const BETWEEN_MARKS: [Activity; MARKS - 1] = [Activity::Copy, Activity::Kernel, Activity::Copy];

impl Eval {
    /// Waits until everything queued on the chunk's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.chunk.wait()
    }

    /// Queues the expansion of what was not delivered, once more.
    pub(crate) fn expand(&self, on: &Stream) -> Result<(), BackendError> {
        self.chunk.expand(on)
    }

    /// Queues the kernel of exchange `step` on the chunk's own stream.
    fn compute(&mut self, step: usize) -> Result<(), BackendError> {
        self.address(step);
        self.launch(step, self.chunk.slot.stream())
    }

    /// Queues on `on` the kernel of exchange `step`, on messages that are on the GPU.
    pub(crate) fn launch(&self, step: usize, on: &Stream) -> Result<(), BackendError> {
        let Staged { kernels, job, .. } = &self.chunk;
        let (kernel, _) =
            kernels.steps.get(step).ok_or(BackendError::Misuse("a step that the gate does not have"))?;
        // SAFETY: the slot has room for the gate's key, states and messages, all laid out by Staged::new.
        unsafe { backend::start(on, *kernel, job) }
    }

    /// Points the job at the messages of exchange `step` and of the one before.
    pub(crate) fn address(&mut self, step: usize) {
        let Staged { slot, rooms, messages, job, .. } = &mut self.chunk;
        let put = |list: &mut [u64], message: &Message, at: usize| {
            for (address, segment) in list.iter_mut().zip(&message.segments) {
                *address = slot.at(at + segment);
            }
        };
        if let Some(before) = step.checked_sub(1) {
            put(&mut job.mine, &messages[before], rooms.messages[before % 2]);
            put(&mut job.theirs, &messages[before], rooms.incoming);
        }
        if let Some(message) = messages.get(step) {
            put(&mut job.out, message, rooms.messages[step % 2]);
        }
    }

    /// Checks that `incoming` can be the peer's message of the exchange before `step`, which is the next.
    fn check_turn(&self, step: usize, incoming: &[u8]) -> Result<(), BackendError> {
        if step != self.sent {
            return Err(BackendError::Misuse("an exchange out of turn"));
        }
        let expected = step.checked_sub(1).map_or(0, |before| self.chunk.messages[before].bytes);
        if incoming.len() != expected {
            return Err(BackendError::Misuse("a message of another length than the gate's"));
        }
        Ok(())
    }

    /// Queues everything of exchange `step`: the peer's message of the exchange before, the kernel, and the copy of what it
    /// makes to `message`. Each kind of work stands between two marks.
    ///
    /// # Safety
    /// `message` is not touched until the chunk's stream has been waited for, whatever this returns.
    unsafe fn queue(
        &mut self,
        step: usize,
        incoming: &[u8],
        message: &mut Pinned,
    ) -> Result<(), BackendError> {
        let begun = Instant::now();
        self.chunk.slot.pinned.bytes_mut()[..incoming.len()].copy_from_slice(incoming);
        self.copied_since(begun);
        let Staged { slot, rooms, messages, .. } = &self.chunk;
        slot.mark(0)?;
        if let Some(before) = step.checked_sub(1) {
            for (at, range) in &messages[before].runs {
                slot.upload(range.start, rooms.incoming + at, range.len())?;
            }
        }
        slot.mark(1)?;
        self.compute(step)?;
        let Staged { slot, rooms, messages, .. } = &self.chunk;
        slot.mark(2)?;
        for (at, range) in &messages[step].runs {
            let to = &mut message.bytes_mut()[range.clone()];
            // SAFETY: by the caller's promise.
            unsafe { slot.download_to(rooms.messages[step % 2] + at, to) }?;
        }
        slot.mark(3)
    }

    /// Keeps what the GPU did since the first mark. The last was passed just now; the others are as far back as it says.
    fn take_marks(&mut self) -> Result<(), BackendError> {
        let mut end = Instant::now();
        for (i, activity) in BETWEEN_MARKS.into_iter().enumerate().rev() {
            let ms = self.chunk.slot.between_marks_ms(i)?;
            let start = end.checked_sub(Duration::from_secs_f32(ms.max(0.0) / 1e3)).unwrap_or(end);
            self.spans.push(Span { activity, start, end });
            end = start;
        }
        Ok(())
    }

    /// The calling thread moved bytes until now.
    fn copied_since(&mut self, start: Instant) {
        self.spans.push(Span { activity: Activity::Copy, start, end: Instant::now() });
    }
}

impl ChunkEval for Eval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.check_turn(step, incoming)?;
        let mut message =
            self.chunk.outgoing.pop().ok_or(BackendError::Misuse("a step that the gate does not have"))?;
        self.chunk.shared.device.bind()?;
        // SAFETY: the message is not touched before the wait below, whatever fails.
        let queued = unsafe { self.queue(step, incoming, &mut message) };
        let done = self.chunk.wait();
        queued.and(done)?;
        self.take_marks()?;
        self.last = message.share();
        self.sent = step + 1;
        Ok(self.last.clone())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.check_turn(self.chunk.messages.len(), incoming)?;
        let begun = Instant::now();
        let mut y_hat = std::mem::take(&mut self.words);
        opening::open(&self.last, incoming, &mut y_hat);
        self.copied_since(begun);
        Ok(y_hat)
    }

    fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }
}
