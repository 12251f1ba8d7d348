//! A chunk's evaluation on the GPU: one upload, one kernel and one download for each exchange.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use suf_gate::{
    Activity, BackendError, ChunkEval, EvalJob, Input, KeyBytes, Role, Segment, Source, Span, StagedKey,
    layout::{R_IN, R_OUT},
};

use crate::{
    backend::{self, Kernels, Shared},
    driver::Stream,
    layout::{self, Job, Layout, SEGMENTS, STATES, TABLE_BYTES},
    memory::{MARKS, Pinned, Slot},
};

/// A chunk's key on the GPU: uploaded, and what is not delivered expanded.
pub(crate) struct Staged {
    shared: Arc<Shared>,
    kernels: Arc<Kernels>,
    eval: EvalJob,
    slot: Slot,
    job: Job,
    rooms: Rooms,
    /// The table of streams and the delivered key, until they are on the GPU.
    key: Option<Pinned>,
    lengths: Vec<usize>,
}

/// Where the rest of a chunk stands in the slot, and in its pinned memory.
#[derive(Clone, Copy, Debug)]
struct Rooms {
    input: usize,
    output: usize,
    /// Messages in turn: this party's of the exchange before, and the one in the making.
    messages: [usize; 2],
    incoming: usize,
    pinned_words: usize,
    pinned_out: usize,
    pinned_in: usize,
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
        let words = 8 * elems;
        let message = layout::largest_message(gate, elems);
        let input = layout.take(words);
        let output = layout.take(words);
        let states: [usize; STATES] = std::array::from_fn(|_| layout.take(words));
        let messages = [layout.take(message), layout.take(message)];
        let incoming = layout.take(message);
        let mut pinned = Layout::from(0);
        let rooms = Rooms {
            input,
            output,
            messages,
            incoming,
            pinned_words: pinned.take(words),
            pinned_out: pinned.take(message),
            pinned_in: pinned.take(message),
        };

        let slot = shared.memory.slot(layout.end(), pinned.end())?;
        let mut pinned_key = shared.memory.pinned(key_end)?;
        let mut job = Job {
            elems: elems as u32,
            plane_bytes: elems.div_ceil(8) as u32,
            party: eval.party.index() as u32,
            seeded: layout::seeded(eval.chunk).index() as u32,
            input: slot.at(input),
            output: slot.at(output),
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
        let staged = Self { shared, kernels, eval: eval.clone(), slot, job, rooms, key, lengths };
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
    pub(crate) fn evaluate(mut self, input: &Input) -> Result<Eval, BackendError> {
        let (Input::Wire(words) | Input::Shares(words)) = input;
        if matches!(input, Input::Shares(_)) != self.eval.gate.takes_shares() {
            return Err(BackendError::Misuse("shares where the gate takes the wire, or the other way round"));
        }
        if words.len() != self.eval.elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        self.shared.device.bind()?;
        let Rooms { input, pinned_words, .. } = self.rooms;
        let place = &mut self.slot.pinned.bytes_mut()[pinned_words..][..8 * words.len()];
        for (place, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        self.slot.upload(pinned_words, input, 8 * words.len())?;
        Ok(Eval { chunk: self, sent: 0, spans: Vec::new() })
    }
}

impl StagedKey for Staged {
    fn begin(self: Box<Self>, input: Input) -> Result<Box<dyn ChunkEval>, BackendError> {
        let eval = self.evaluate(&input)?;
        eval.wait()?;
        Ok(Box::new(eval))
    }
}

/// A chunk in evaluation.
pub(crate) struct Eval {
    chunk: Staged,
    /// Exchanges whose message has been made.
    sent: usize,
    spans: Vec<Span>,
}

/// What happens between a mark of the chunk's stream and the next.
const BETWEEN_MARKS: [Activity; MARKS - 1] = [Activity::Copy, Activity::Kernel, Activity::Copy];

impl Eval {
    /// Waits until everything queued on the chunk's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.chunk.wait()
    }

    /// Queues the kernel of exchange `step` on the chunk's own stream.
    fn compute(&mut self, step: usize) -> Result<(), BackendError> {
        self.address(step);
        self.launch(step, self.chunk.slot.stream())
    }

    /// Queues on `on` the kernel of exchange `step`, or the opening of the last, on messages that are on the GPU.
    pub(crate) fn launch(&self, step: usize, on: &Stream) -> Result<(), BackendError> {
        let Staged { shared, kernels, job, .. } = &self.chunk;
        let kernel = match kernels.steps.get(step) {
            Some((kernel, _)) => *kernel,
            None => shared.opening,
        };
        // SAFETY: the slot has room for the gate's key, states and messages, all laid out by Staged::new.
        unsafe { backend::start(on, kernel, job) }
    }

    /// Points the job at the messages of exchange `step` and of the one before.
    pub(crate) fn address(&mut self, step: usize) {
        let Staged { slot, rooms, eval, job, .. } = &mut self.chunk;
        let (gate, elems) = (&eval.gate, eval.elems);
        let addresses = |segments: &[Segment], at: usize| {
            let mut list = [0; SEGMENTS];
            for (address, range) in list.iter_mut().zip(Layout::from(at).segments(segments, elems)) {
                *address = slot.at(range.start);
            }
            list
        };
        if let Some(before) = step.checked_sub(1) {
            let segments = &gate.exchanges()[before];
            job.mine = addresses(segments, rooms.messages[before % 2]);
            job.theirs = addresses(segments, rooms.incoming);
        }
        if let Some(segments) = gate.exchanges().get(step) {
            job.out = addresses(segments, rooms.messages[step % 2]);
        }
    }

    /// Copies the peer's message of the exchange before `step` to the GPU.
    fn receive(&mut self, step: usize, incoming: &[u8]) -> Result<(), BackendError> {
        let gate = &self.chunk.eval.gate;
        let elems = self.chunk.eval.elems;
        if step != self.sent || step > gate.exchanges().len() {
            return Err(BackendError::Misuse("an exchange out of turn"));
        }
        let expected = step.checked_sub(1).map_or(0, |before| gate.message_bytes(before, elems));
        if incoming.len() != expected {
            return Err(BackendError::Misuse("a message of another length than the gate's"));
        }
        self.chunk.shared.device.bind()?;
        let Some(before) = step.checked_sub(1) else { return self.chunk.slot.mark(0) };
        let Rooms { incoming: to, pinned_in, .. } = self.chunk.rooms;
        let (places, len) = places(&gate.exchanges()[before], elems, pinned_in);
        let slot = &mut self.chunk.slot;
        let begun = Instant::now();
        for (place, packed) in places {
            slot.pinned.bytes_mut()[place].copy_from_slice(&incoming[packed]);
        }
        self.spans.push(Span { activity: Activity::Copy, start: begun, end: Instant::now() });
        slot.mark(0)?;
        slot.upload(pinned_in, to, len)
    }

    /// Queues the kernel of exchange `step` and the copy of what it made to the host, and waits for them. Each kind of
    /// work is a span.
    fn make(&mut self, step: usize, from: usize, to: usize, len: usize) -> Result<(), BackendError> {
        self.chunk.slot.mark(1)?;
        self.compute(step)?;
        self.chunk.slot.mark(2)?;
        self.chunk.slot.download(from, to, len)?;
        self.chunk.slot.mark(3)?;
        self.chunk.slot.stream().wait()?;
        // The last mark was passed just now; the others are as far back as the GPU says.
        let mut end = Instant::now();
        for (i, activity) in BETWEEN_MARKS.into_iter().enumerate().rev() {
            let ms = self.chunk.slot.between_marks_ms(i)?;
            let start = end.checked_sub(Duration::from_secs_f32(ms.max(0.0) / 1e3)).unwrap_or(end);
            self.spans.push(Span { activity, start, end });
            end = start;
        }
        Ok(())
    }
}

impl ChunkEval for Eval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Vec<u8>, BackendError> {
        if step >= self.chunk.eval.gate.exchanges().len() {
            return Err(BackendError::Misuse("a step that the gate does not have"));
        }
        self.receive(step, incoming)?;
        let Rooms { messages, pinned_out, .. } = self.chunk.rooms;
        let (gate, elems) = (self.chunk.eval.gate.clone(), self.chunk.eval.elems);
        let (places, len) = places(&gate.exchanges()[step], elems, pinned_out);
        self.make(step, messages[step % 2], pinned_out, len)?;
        let begun = Instant::now();
        let mut message = Vec::with_capacity(gate.message_bytes(step, elems));
        for (place, _) in places {
            message.extend_from_slice(&self.chunk.slot.pinned.bytes()[place]);
        }
        self.spans.push(Span { activity: Activity::Copy, start: begun, end: Instant::now() });
        self.sent = step + 1;
        Ok(message)
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        let step = self.chunk.eval.gate.exchanges().len();
        self.receive(step, incoming)?;
        let Rooms { output, pinned_words, .. } = self.chunk.rooms;
        let len = 8 * self.chunk.eval.elems;
        self.make(step, output, pinned_words, len)?;
        let begun = Instant::now();
        let words = self.chunk.slot.pinned.bytes()[pinned_words..][..len].as_chunks::<8>().0;
        let y_hat = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        self.spans.push(Span { activity: Activity::Copy, start: begun, end: Instant::now() });
        Ok(y_hat)
    }

    fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }
}

/// Where a segment stands in pinned memory, and where in the packed message.
type Place = (Range<usize>, Range<usize>);

/// A message's segments: in pinned memory from `start` on, and in the packed message. And the bytes they span there.
fn places(segments: &[Segment], elems: usize, start: usize) -> (Vec<Place>, usize) {
    let mut layout = Layout::from(start);
    let mut end = 0;
    let pairs = layout.segments(segments, elems).into_iter().map(|place| {
        let packed = end..end + place.len();
        end = packed.end;
        (place, packed)
    });
    let pairs = pairs.collect();
    (pairs, layout.end() - start)
}
