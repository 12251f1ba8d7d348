//! One party's evaluation of `onehot`.

use std::mem;

use suf_gate::{
    Party,
    layout::FieldId,
    onehot::{BIT_MASKS, COMBINE_ROWS, ENTRY_MASK, HOT_WINDOW, MAX_DIGITS, Onehot},
    ring::WIRE,
};
use zeroize::Zeroizing;

use super::{
    Digits,
    digit::{self, DigitKind},
    row, state,
};
use crate::{
    eval::GateEval,
    key::{PartKey, STRIP, strips},
    line::{self, Opened, OutputLine},
    lookup::Sums,
    pack, planes,
    simd::{Simd, Vectorised},
};

/// What has been opened, and in the end this party's shares of y_hat.
pub(crate) struct OnehotEval {
    gate: Onehot,
    /// The masked wire until the last exchange, from then on this party's shares of y_hat.
    wire: Vec<u64>,
    phases: Vec<OnehotExchange>,
    /// The opened states, in the bits of [`state`]; the two lower digits' states are replaced by the combined one.
    states: Vec<u16>,
    /// The opened m.
    entries: Vec<u16>,
    /// The opened w in bit 0 and pos in bit 1.
    choices: Vec<u16>,
}

/// What an exchange opens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnehotExchange {
    /// States and the table's entry.
    States,
    /// The state of two lower digits together: a row of this table.
    Combined(FieldId),
    /// w and pos: a row of this table.
    Choice(FieldId),
    /// The output.
    Output,
}

impl OnehotEval {
    /// Starts on the opened input.
    pub(crate) fn new(gate: &Onehot, x_hat: Vec<u64>) -> Self {
        let mut phases = vec![OnehotExchange::States];
        phases.extend(gate.combine_table().map(|(table, _)| OnehotExchange::Combined(table)));
        phases.extend(gate.select_table().map(|(table, _)| OnehotExchange::Choice(table)));
        phases.push(OnehotExchange::Output);
        let none = Vec::new;
        Self { gate: gate.clone(), wire: x_hat, phases, states: none(), entries: none(), choices: none() }
    }

    /// This party's shares of the states and of m.
    fn share_states(&self, key: &PartKey) -> Vec<u8> {
        let (gate, elems) = (&self.gate, self.elems());
        let curve = gate.curve();
        let plane_bytes = elems.div_ceil(8);
        let planes_len = usize::from(gate.bit_planes()) * plane_bytes;
        let mut message = vec![0; key.job().gate().message_bytes(0, elems)];
        let (planes, packed) = message.split_at_mut(planes_len);

        let digits = Digits::of(gate);
        let table = super::window_table(curve);
        let hot_window = key.field(HOT_WINDOW);
        let hot_digits: Vec<_> = digits.all().map(|(i, bits)| (bits, key.field(gate.hot_digit(i)))).collect();
        let masks = key.field(ENTRY_MASK);
        // P1's share of the entry is negated: where the two vectors agree, the sums cancel.
        let negate = key.job().party == Party::P1;
        let entry_bits = curve.mask_bits();
        let window_bytes = 1 << (curve.window_bits - 3);
        let centre = 1 << (curve.window_bits - 1);
        let level = key.level();

        let mut scratch = Zeroizing::new(Vec::new());
        let mut values = [[0; STRIP]; 1 + MAX_DIGITS];
        let mut sums = Zeroizing::new([Sums::default(); STRIP]);
        let mut states = Zeroizing::new([0u16; STRIP]);
        let mut entries = Zeroizing::new([0u64; STRIP]);
        for range in strips(elems) {
            let n = range.len();
            digits.split(level, &self.wire[range.clone()], curve.shift, centre, &mut values);
            let [window, upper @ ..] = &values;
            let hot = hot_window.read(range.start * window_bytes..range.end * window_bytes, &mut scratch);
            table.read(level, hot, &window[..n], &mut sums[..n]);
            let masks = masks.read(2 * range.start..2 * range.end, &mut scratch).as_chunks().0;
            let (states, entries) = (&mut states[..n], &mut entries[..n]);
            level.dispatch(WindowShares {
                sums: &sums[..n],
                masks,
                negate,
                states: &mut *states,
                entries: &mut *entries,
            });
            let mut at = state::LOWER;
            for (i, ((bits, hot), upper)) in hot_digits.iter().zip(upper).enumerate() {
                let bytes = 1 << (bits - 3);
                let hot = hot.read(range.start * bytes..range.end * bytes, &mut scratch);
                let place = if i < gate.lower_digits() { DigitKind::Lower } else { DigitKind::Top };
                digit::read(level, place, *bits, hot, &upper[..n], states, at);
                at += state::LOWER_BITS;
            }
            if gate.digits().is_empty() {
                // p alone.
                states.iter_mut().for_each(|state| *state >>= 1);
            }
            planes::from_words(states, planes, plane_bytes, range.start / 8);
            let place = range.start * usize::from(entry_bits) / 8;
            let len = pack::packed_bytes(entry_bits.into(), n);
            pack::pack(entry_bits.into(), entries, &mut packed[place..place + len]);
        }
        key.mask_planes(BIT_MASKS, planes);
        message
    }

    /// Opens the states and m.
    fn open_states(&mut self, mine: &[u8], theirs: &[u8]) {
        let elems = self.elems();
        let planes_len = usize::from(self.gate.bit_planes()) * elems.div_ceil(8);
        let (my_planes, my_entries) = mine.split_at(planes_len);
        let (their_planes, their_entries) = theirs.split_at(planes_len);
        self.states = planes::open(my_planes, their_planes, elems);
        let bits = self.gate.curve().mask_bits();
        self.entries = line::open_entries(bits, my_entries, their_entries, elems);
        if self.gate.digits().is_empty() {
            // w is 1, and p is pos.
            self.choices = self.states.iter().map(|p| 1 | p << 1).collect();
        }
    }

    /// Puts the combined state in the place of the two.
    fn open_combined(&mut self, mine: &[u8], theirs: &[u8]) {
        let combined = planes::open(mine, theirs, self.elems());
        for (state, combined) in self.states.iter_mut().zip(combined) {
            let window = *state & ((1 << state::LOWER) - 1);
            *state = window | combined << state::LOWER | *state >> state::top(2) << state::top(1);
        }
    }

    /// This party's shares of w and pos: a row of its table.
    fn share_choice(&self, key: &PartKey, table: FieldId) -> Vec<u8> {
        match self.gate.select_rows() {
            128 => self.look_up::<2, 128>(key, table, 0),
            16 => self.look_up::<2, 16>(key, table, 0),
            _ => unreachable!("a table of w and pos has 16 or 128 rows"),
        }
    }

    /// This party's shares of y_hat.
    fn share_output(&mut self, key: &PartKey) -> Vec<u8> {
        let line = OutputLine::new(self.gate.curve(), !self.gate.digits().is_empty(), key.job().party);
        let opened = Opened { wire: &mut self.wire, entries: &self.entries, choices: &self.choices };
        line.message(key, self.gate.ring_elements(), opened)
    }

    /// Selects for every element the row that the public state names, in each of `OUTPUTS` tables of `ROWS` rows. A
    /// state begins at bit `at`. The rows' bits become planes of the message.
    fn look_up<const OUTPUTS: usize, const ROWS: usize>(
        &self,
        key: &PartKey,
        table: FieldId,
        at: u8,
    ) -> Vec<u8> {
        let width = OUTPUTS * ROWS / 8;
        let elems = self.elems();
        let plane_bytes = elems.div_ceil(8);
        let mut message = vec![0; OUTPUTS * plane_bytes];
        let table = key.field(table);
        let mut scratch = Zeroizing::new(Vec::new());
        for range in strips(elems) {
            let tables = table.read(range.start * width..range.end * width, &mut scratch);
            let (states, first) = (&self.states[range.clone()], range.start / 8);
            row::read::<OUTPUTS, ROWS>(key.level(), tables, states, at, &mut message, plane_bytes, first);
        }
        message
    }

    fn elems(&self) -> usize {
        self.wire.len()
    }
}

/// What a strip's window vectors say: c, p, and this party's share of m.
struct WindowShares<'a> {
    sums: &'a [Sums],
    /// This party's masks of the entries.
    masks: &'a [[u8; 2]],
    negate: bool,
    states: &'a mut [u16],
    entries: &'a mut [u64],
}

impl Vectorised for WindowShares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { sums, masks, negate, states, entries } = self;
        for (state, sums) in states.iter_mut().zip(sums) {
            *state = sums.above() & 1 | (sums.counted() & 1) << 1;
        }
        for ((entry, sums), mask) in entries.iter_mut().zip(sums).zip(masks) {
            let share = sums.entries() as u16;
            let share = if negate { share.wrapping_neg() } else { share };
            *entry = share.wrapping_add(u16::from_le_bytes(*mask)).into();
        }
    }
}

impl GateEval for OnehotEval {
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8> {
        match self.phases[step] {
            OnehotExchange::States => self.share_states(key),
            OnehotExchange::Combined(table) => self.look_up::<3, COMBINE_ROWS>(key, table, state::LOWER),
            OnehotExchange::Choice(table) => self.share_choice(key, table),
            OnehotExchange::Output => self.share_output(key),
        }
    }

    fn open(&mut self, _: &PartKey, step: usize, mine: &[u8], theirs: &[u8]) {
        match self.phases[step] {
            OnehotExchange::States => self.open_states(mine, theirs),
            OnehotExchange::Combined(_) => self.open_combined(mine, theirs),
            OnehotExchange::Choice(_) => self.choices = planes::open(mine, theirs, self.elems()),
            OnehotExchange::Output => unreachable!("the output is opened by itself"),
        }
    }

    fn open_output(&mut self, _: &PartKey, _: &[u8], theirs: &[u8]) -> Vec<u64> {
        // This party's shares are kept unpacked in the place of the wire.
        let mut outputs = mem::take(&mut self.wire);
        pack::add_unpacked(WIRE.bits().into(), theirs, &mut outputs);
        outputs
    }
}
