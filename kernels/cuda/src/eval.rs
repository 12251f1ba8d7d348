//! A gate's part evaluated on the GPU. Each exchange has one upload, of the peer's message, and one kernel. The kernel writes
//! this party's message to where it is sent from, and then sets a flag. The driver is called for these two alone.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use suf_gate::{
    Activity, BackendError, EvalJob, HostValue, KeyBytes, PartEval, Side, Span, StagedPart, Value,
    ops::{Entry, Extended, GateOp},
    prg::MASK,
    ring::WIRE,
};

use crate::{
    backend::{self, Kernels, Shared},
    completion::{COMPLETION_BYTES, Ran},
    driver::CudaStream,
    layout::{self, Expansion, HEAD_BYTES, Job, Layout, Message, STATES, TABLE_BYTES},
    masks,
    memory::{Pinned, Slot},
    opening::{self, PACKED},
    ops::{self, DeviceValue, Entering, How, Unpacking},
};

/// A part's key on the GPU: uploaded, and what is not delivered expanded.
pub(crate) struct Staged {
    shared: Arc<Shared>,
    eval: EvalJob,
    /// Keeps the slot's head and the delivered key in the host's memory until they are on the GPU.
    slot: Slot,
    job: Job,
    rooms: Rooms,
    messages: Vec<Message>,
    /// Memory for the message of each exchange that is not made yet, the last one first: the exchanges allocate nothing. Stands
    /// after the slot, whose drop waits for the kernels that write to it.
    outgoing: Vec<Pinned>,
    lengths: Vec<usize>,
    /// After the slot, whose drop waits for what is queued of them.
    kernels: Arc<Kernels>,
}

/// Where the rest of a tile stands in the slot.
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
        let (elems, side) = (eval.elems(), eval.side());
        let (Some(op), [wire]) = (eval.node().op().as_gate(), eval.node().inputs()) else {
            return Err(BackendError::Misuse("kernels evaluate gates alone"));
        };
        let (gate, entry, wire) = (op.gate(), op.entry(), *wire);
        let kernels = shared.kernels(gate)?;

        let mut layout = Layout::from(HEAD_BYTES);
        // A share of a mask that the host makes goes up with the key.
        let is_stream = eval.program.node(wire).wire().is_some_and(|wire| masks::is_stream(wire, entry));
        let from_host = kernels.masks.taken && !is_stream;
        let mask = from_host
            .then(|| shared.mask(&eval.program, eval.domain(), wire, &[&eval.seed], None))
            .transpose()?;
        let mask_at = layout.take(if from_host { PACKED * elems } else { 0 });
        let head = layout.end();
        let places = layout.fields(eval.key_shape(), side, elems, side == Side::Seeded);
        let delivered = places.iter().filter(|place| place.packed.is_some());
        let key_end = delivered.map(|place| place.at + place.bytes).max().unwrap_or(head);
        let messages: Vec<_> =
            gate.exchanges().iter().map(|segments| Message::new(segments, elems)).collect();
        let largest = messages.iter().map(|message| message.room).max().unwrap_or(0);
        let taken = (kernels.masks.taken && is_stream).then(|| layout.take(PACKED * elems));
        let made = kernels.masks.made.then(|| layout.take(PACKED * elems));
        let words = 8 * elems;
        let input = layout.take(words);
        let states: [usize; STATES] = std::array::from_fn(|_| layout.take(words));
        let rooms = Rooms {
            input,
            messages: [layout.take(largest), layout.take(largest)],
            incoming: layout.take(largest),
        };

        // Entries of the last message are read in whole words.
        let mut slot = shared.memory.slot(layout.end() + layout::ALIGN, COMPLETION_BYTES + words)?;
        let outgoing = messages.iter().rev().map(|message| shared.memory.pinned(message.room));
        let outgoing = outgoing.collect::<Result<Vec<_>, _>>()?;
        let mut pinned_key = shared.memory.pinned(key_end)?;
        let mut job = Job {
            party: eval.party.index() as u32,
            input: slot.at(input),
            state: states.map(|at| slot.at(at)),
            kept: entry.kept().into(),
            ended: slot.at(TABLE_BYTES),
            completion: slot.pinned.address(),
            ..Job::new(&eval.program, eval.part, eval.domain().fixed_keys())
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
                    let key = eval.domain().stream(&eval.seed, place.id);
                    streams.push(Expansion { key, to: place.at, bytes: place.bytes });
                }
            }
        }
        job.wrap = op.wrap().map_or(0, |wrap| job.key[0][usize::from(wrap.0)]);
        if let Some(mask) = mask {
            job.taken[0] = slot.at(mask_at);
            masks::pack(entry, &mask, &mut pinned_key.bytes_mut()[mask_at..head]);
        }
        let wires = [(wire, taken, &mut job.taken[0]), (eval.part.node, made, &mut job.made[0])];
        for (wire, place, address) in wires {
            if let Some(to) = place {
                *address = slot.at(to);
                let key = eval.mask_domain(wire).stream(&eval.seed, MASK);
                streams.push(Expansion { key, to, bytes: PACKED * elems });
            }
        }
        backend::put_streams(slot.at(0), pinned_key.bytes_mut(), &streams)?;
        let lengths = streams.iter().map(|stream| stream.bytes).collect();
        slot.upload_whole(pinned_key)?;
        let staged =
            Self { shared, eval: eval.clone(), slot, job, rooms, messages, outgoing, lengths, kernels };
        staged.expand(staged.slot.stream())?;
        Ok(staged)
    }

    /// Queues the upload of the key once more, while it is in the host's memory, for measurements.
    ///
    /// # Safety
    /// `on` is waited for before this is settled, dropped or evaluated.
    pub(crate) unsafe fn upload_again(&self, on: &CudaStream) -> Result<(), BackendError> {
        // SAFETY: by the caller's promise.
        unsafe { self.slot.upload_again(on) }
    }

    /// Waits until the key is on the GPU, and wipes the host's copy.
    pub(crate) fn settle(mut self) -> Result<Self, BackendError> {
        self.slot.settle()?;
        Ok(self)
    }

    /// Queues the expansion of what was not delivered.
    pub(crate) fn expand(&self, on: &CudaStream) -> Result<(), BackendError> {
        self.shared.expand(self.slot.at(0), on, &self.lengths)
    }

    /// Waits until everything queued on the tile's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.slot.stream().wait()
    }

    /// Elements of the tile.
    pub(crate) fn elems(&self) -> usize {
        self.eval.elems()
    }

    /// Bytes of the upload, and bytes that are expanded.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.slot.uploading_bytes().saturating_sub(HEAD_BYTES), self.lengths.iter().sum())
    }

    /// Queues the upload of the input.
    pub(crate) fn evaluate(mut self, inputs: Vec<Arc<dyn Value>>) -> Result<Eval, BackendError> {
        let entry = self.eval.node().op().as_gate().map_or(Entry::WHOLE, GateOp::entry);
        self.eval.check_inputs(&inputs)?;
        if let [input] = &inputs[..]
            && let Some(input) = DeviceValue::of(input, &self.shared)
        {
            self.enter(&input, entry)?;
            return Ok(Eval {
                part: self,
                words: Vec::new(),
                input: Some(input),
                sent: 0,
                last: Bytes::new(),
                spans: Vec::new(),
            });
        }
        let mut words = self.eval.only_input(inputs)?;
        if entry != Entry::WHOLE {
            for word in &mut words {
                let (entered, q) = entry.enter(*word);
                // Whether wraps count: see `Job::input`.
                *word = entered | (1 - q) << 63;
            }
        }
        self.shared.device.bind()?;
        let place = &mut self.slot.pinned.bytes_mut()[COMPLETION_BYTES..][..8 * words.len()];
        for (place, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(&words) {
            *place = word.to_le_bytes();
        }
        // SAFETY: the input's place in the pinned memory is written once, above.
        unsafe { self.slot.upload(COMPLETION_BYTES, self.rooms.input, 8 * words.len()) }?;
        Ok(Eval { part: self, words, input: None, sent: 0, last: Bytes::new(), spans: Vec::new() })
    }

    /// Queues what the gate takes of a wire that is on the GPU.
    fn enter(&self, input: &DeviceValue, entry: Entry) -> Result<(), BackendError> {
        self.shared.device.bind()?;
        if let Some(ready) = input.ready() {
            self.slot.stream().after(ready)?;
        }
        let task = Entering {
            out: self.slot.at(self.rooms.input),
            x: input.address(),
            elems: self.eval.elems() as u32,
            is_extended: entry.is_extended().into(),
            from: Extended { ring: entry.ring, drop: entry.drop }.into(),
        };
        // SAFETY: as many words of both. Whoever queues this holds the input until the slot's stream was waited for.
        unsafe { ops::start(&self.shared, self.slot.stream(), &task) }
    }
}

impl StagedPart for Staged {
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        let eval = self.evaluate(inputs)?;
        // An input of the host's was copied then, and may go.
        if eval.input.is_none() {
            eval.wait()?;
        }
        Ok(Box::new(eval))
    }
}

/// A part in evaluation.
pub(crate) struct Eval {
    part: Staged,
    /// The input, whose place the output takes, if it came from the host.
    words: Vec<u64>,
    /// The input that was on the GPU. Then the output stays there.
    input: Option<Arc<DeviceValue>>,
    /// Exchanges whose message has been made.
    sent: usize,
    /// The message that was made last.
    last: Bytes,
    spans: Vec<Span>,
}

impl Eval {
    /// Waits until everything queued on the tile's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.part.wait()
    }

    /// Number of exchanges.
    pub(crate) fn exchanges(&self) -> usize {
        self.part.messages.len()
    }

    /// Queues the expansion of what was not delivered, once more.
    pub(crate) fn expand(&self, on: &CudaStream) -> Result<(), BackendError> {
        self.part.expand(on)
    }

    /// Queues on `on` the kernel of exchange `step`, on messages that are on the GPU.
    pub(crate) fn launch(&self, step: usize, on: &CudaStream) -> Result<(), BackendError> {
        let Staged { kernels, job, .. } = &self.part;
        let (kernel, _) =
            kernels.steps.get(step).ok_or(BackendError::Misuse("a step that the gate does not have"))?;
        // SAFETY: the slot has room for the gate's key, states and messages, all laid out by Staged::new. The part owns the
        // message's room in the host's memory, and what the kernel tells.
        unsafe { backend::start(on, *kernel, job) }
    }

    /// Points the job at the messages of exchange `step`, which is not made yet, and of the one before.
    pub(crate) fn address(&mut self, step: usize) {
        let Staged { slot, rooms, messages, outgoing, job, .. } = &mut self.part;
        let put = |list: &mut [u64], message: &Message, start: u64| {
            for (address, segment) in list.iter_mut().zip(&message.segments) {
                *address = start + *segment as u64;
            }
        };
        if let Some(before) = step.checked_sub(1) {
            put(&mut job.mine, &messages[before], slot.at(rooms.messages[before % 2]));
            put(&mut job.theirs, &messages[before], slot.at(rooms.incoming));
        }
        let message = &messages[step];
        put(&mut job.out, message, slot.at(rooms.messages[step % 2]));
        put(&mut job.sent, message, outgoing[messages.len() - 1 - step].address());
        job.bits = message.bits;
        job.exchange = step as u32;
    }

    /// Checks that `incoming` can be the peer's message of the exchange before `step`, which is the next.
    fn check_turn(&self, step: usize, incoming: &[u8]) -> Result<(), BackendError> {
        if step != self.sent {
            return Err(BackendError::Misuse("an exchange out of turn"));
        }
        let expected = step.checked_sub(1).map_or(0, |before| self.part.messages[before].bytes);
        if incoming.len() != expected {
            return Err(BackendError::Misuse("a message of another length than the gate's"));
        }
        Ok(())
    }

    /// Queues all of exchange `step`: the peer's message of the exchange before, and the kernel.
    ///
    /// # Safety
    /// `incoming` stays as it is until the kernel has ended, or the tile's stream has been waited for if this fails.
    unsafe fn queue(&self, step: usize, incoming: &[u8]) -> Result<(), BackendError> {
        let Staged { slot, rooms, messages, .. } = &self.part;
        if let Some(before) = step.checked_sub(1) {
            for (at, range) in &messages[before].runs {
                // SAFETY: by the caller's promise; the kernel comes after the copy.
                unsafe { slot.upload_bytes(&incoming[range.clone()], rooms.incoming + at) }?;
            }
        }
        self.launch(step, slot.stream())
    }

    /// Has the GPU make the message of exchange `step`.
    fn exchange(&mut self, step: usize, incoming: &[u8]) -> Result<Ran, BackendError> {
        self.address(step);
        // SAFETY: this returns when the kernel has ended, or else after a wait.
        let queued = unsafe { self.queue(step, incoming) };
        let Staged { slot, .. } = &self.part;
        let completion = slot.pinned.completion();
        let ran = queued.and_then(|()| completion.wait(step as u64 + 1, || slot.stream().is_idle()));
        if ran.is_err() {
            // What was queued may use both messages until then. This error is the first one's consequence, if there is one.
            let _ = self.part.wait();
            // A second try could not tell its kernel's word from the first one's.
            self.part.outgoing.clear();
        }
        ran
    }

    /// The last exchange opened on the GPU.
    fn open(&self, incoming: &[u8]) -> Result<DeviceValue, BackendError> {
        let Staged { shared, eval, slot, rooms, messages, .. } = &self.part;
        let elems = eval.elems();
        let last = messages.last().ok_or(BackendError::Misuse("a gate without an exchange"))?;
        shared.device.bind()?;
        let y_hat = DeviceValue::room(shared, elems, false)?;
        let places = [rooms.messages[(messages.len() - 1) % 2], rooms.incoming]
            .map(|at| slot.at(at + last.segments[0]));
        let sum = |from: u64, how: How| Unpacking {
            out: y_hat.address(),
            from,
            elems: elems as u32,
            width: WIRE.bits().into(),
            ring: WIRE.bits().into(),
            how,
        };
        let queue = || {
            for (at, range) in &last.runs {
                // SAFETY: the message stays until the wait below.
                unsafe { slot.upload_bytes(&incoming[range.clone()], rooms.incoming + at) }?;
            }
            // SAFETY: both messages have an entry for each word of the value, and the slot spare bytes behind them.
            unsafe {
                ops::start(shared, slot.stream(), &sum(places[0], How::Set))?;
                ops::start(shared, slot.stream(), &sum(places[1], How::Add))
            }
        };
        let queued = queue();
        // The message is the caller's again, whether all was queued or not.
        let waited = self.part.wait();
        queued.and(waited).map(|()| y_hat)
    }

    /// The calling thread moved bytes until now.
    fn copied_since(&mut self, start: Instant) {
        self.spans.push(Span { activity: Activity::Copy, start, end: Instant::now() });
    }
}

impl PartEval for Eval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        self.check_turn(step, incoming)?;
        if self.part.outgoing.is_empty() {
            return Err(BackendError::Misuse("a step that the gate does not have, or after one that failed"));
        }
        self.part.shared.device.bind()?;
        let begun = Instant::now();
        let Ran { start, end } = self.exchange(step, incoming)?;
        let start = start.max(begun);
        if step > 0 {
            // Starting the kernel is part of it: nobody tells when the upload ended.
            self.spans.push(Span { activity: Activity::Copy, start: begun, end: start });
        }
        self.spans.push(Span { activity: Activity::Kernel, start, end });

        let Staged { messages, outgoing, .. } = &mut self.part;
        let (layout, mut message) = (&messages[step], outgoing.pop().expect("checked above"));
        if !layout.is_packed() {
            layout.pack(message.bytes_mut());
        }
        self.last = message.share(layout.bytes);
        self.sent = step + 1;
        Ok(self.last.clone())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        self.check_turn(self.part.messages.len(), incoming)?;
        let begun = Instant::now();
        if self.input.take().is_some() {
            let y_hat = self.open(incoming)?;
            self.copied_since(begun);
            return Ok(Arc::new(y_hat));
        }
        let mut y_hat = std::mem::take(&mut self.words);
        opening::open(&self.last, incoming, &mut y_hat);
        self.copied_since(begun);
        Ok(HostValue::shared(y_hat))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    fn is_prompt(&self) -> bool {
        true
    }
}
