//! The last exchange of the gates that compute a [`Curve`]: y = line(x) + w s D with D = s residual[t]. D has been
//! opened under the mask a. Under bit masks pos, the side of the line, and w, whether t lies in the window, have been
//! opened.
//!
//! Let m' = m + 2^(k-2) mod 2^k and q its highest bit. Then y_hat = kappa[pos] x_hat + tau[w] (m' - 2^(k-2)) + C[pos] +
//! B[w, q]. Everything in it that the dealer knows is a shared ring element that public bits select. Where the tree or
//! the domain leaves no doubt about w, it is 1 and has no mask. Proof: `docs/protocols/building-blocks.md#the-line`.

use suf_gate::{Curve, Party, layout::FieldId, ring::WIRE};
use zeroize::Zeroizing;

use crate::{
    columns,
    key::{KeyWriter, PACKED, PartKey, STRIP, strips},
    pack,
    simd::{
        Level, Simd, Vectorised,
        wide::line::{self as wide, Picked, Picks},
    },
};

/// Ring elements with an opened w: kappa_0, tau_0, tau_1, C_0, C_1, B_01, B_10, B_11.
const WITH_W: usize = 8;
/// Ring elements without: kappa_0, s, C_0, C_1, B_1.
const WITHOUT_W: usize = 5;

/// The bits of an element of the wire.
const MASK: u64 = WIRE.mask();

/// Ring elements of a strip, an array for each, wiped when dropped. Without w the last three arrays are not used.
pub(crate) struct Columns(Zeroizing<[[u64; STRIP]; WITH_W]>);

impl Default for Columns {
    fn default() -> Self {
        Self(Zeroizing::new([[0; STRIP]; WITH_W]))
    }
}

/// Number of ring elements.
fn count(opens_w: bool) -> usize {
    if opens_w { WITH_W } else { WITHOUT_W }
}

/// a, the sum of both parties' masks of the entry, modulo 2^k.
pub(crate) fn entry_masks(key: &KeyWriter<'_>, id: FieldId, curve: &Curve) -> Zeroizing<Vec<u16>> {
    let mut masks = Zeroizing::new(vec![0; key.elems()]);
    let mut own = key.own_sums(id);
    for range in strips(key.elems()) {
        own.words(curve.mask_bits(), range.clone(), &mut masks[range]);
    }
    masks
}

/// What the dealer knows of a tile, or of a strip of it, when it makes its ring elements.
pub(crate) struct Secrets<'a> {
    /// The masks of the wire.
    pub(crate) r_in: &'a [u64],
    /// See [`Secrets::r_in`].
    pub(crate) r_out: &'a [u64],
    /// a, k bits.
    pub(crate) entry_masks: &'a [u16],
    /// Whether party 0 holds the 1 at the hot place of the window, 0 or 1.
    pub(crate) by_p0: &'a [u16],
    /// The masks of w, in bit 0, and of pos, in bit 1. That of w is not read where w is 1.
    pub(crate) choice_masks: &'a [u16],
}

/// The dealer's side: the constants of the ring elements.
pub(crate) struct DealtLine {
    opens_w: bool,
    /// Slope and intercept on the left, and by how much the right ones differ.
    left: [u64; 2],
    step: [u64; 2],
    entry_bits: u8,
}

impl DealtLine {
    /// Of `curve`; `opens_w` says whether w is opened.
    pub(crate) fn new(curve: &Curve, opens_w: bool) -> Self {
        let words = |slope: i64, intercept: i64| [slope.cast_unsigned(), intercept.cast_unsigned()];
        let Curve { left, right, .. } = curve;
        Self {
            opens_w,
            left: words(left.slope, left.intercept),
            step: words(right.slope - left.slope, right.intercept - left.intercept),
            entry_bits: curve.mask_bits(),
        }
    }

    /// Shares the ring elements in the field `id`.
    pub(crate) fn deal(&self, key: &mut KeyWriter<'_>, id: FieldId, secrets: &Secrets<'_>) {
        let level = key.level();
        let mut columns = Columns::default();
        key.shared(id, |range, shares| {
            let secrets = Secrets {
                r_in: &secrets.r_in[range.clone()],
                r_out: &secrets.r_out[range.clone()],
                entry_masks: &secrets.entry_masks[range.clone()],
                by_p0: &secrets.by_p0[range.clone()],
                choice_masks: &secrets.choice_masks[range],
            };
            self.subtract(level, secrets, &mut columns, shares);
        });
    }

    /// Shares, in the last field, what an extended wire's wraps add: kappa\[h\] msb(r) modulo 2^16 for an opened pos h of 0 and of 1.
    /// Nothing if the wire is not extended.
    pub(crate) fn deal_wraps(&self, key: &mut KeyWriter<'_>, choice_masks: &[u16]) {
        let Some(id) = key.wrap() else { return };
        let tops = key.take_tops();
        let kappa = |pos: u64| self.left[0].wrapping_add(pos.wrapping_mul(self.step[0]));
        key.shared(id, |range, shares| {
            for (i, shares) in range.zip(shares.as_chunks_mut::<4>().0) {
                let (rho, top) = (u64::from(choice_masks[i] >> 1 & 1), u64::from(tops[i]));
                let [a, b, c, d] = shares;
                for (h, [low, high]) in [(0, [a, b]), (1, [c, d])] {
                    let value = kappa(rho ^ h).wrapping_mul(top) as u16;
                    let rest = value.wrapping_sub(u16::from_le_bytes([*low, *high]));
                    [*low, *high] = rest.to_le_bytes();
                }
            }
        });
    }

    /// Turns one side's shares of a strip's ring elements into the other's.
    pub(crate) fn subtract(
        &self,
        level: Level,
        secrets: Secrets<'_>,
        columns: &mut Columns,
        shares: &mut [u8],
    ) {
        let count = count(self.opens_w);
        columns::split(shares, &mut columns.0[..count]);
        level.dispatch(Subtract { line: self, secrets, columns: &mut columns.0 });
        columns::join(&columns.0[..count], shares);
    }

    /// The ring elements of one element. Numbers are modulo 2^64; products with secret bits stand in for selections.
    #[inline(always)]
    fn values(&self, r_in: u64, r_out: u64, mask: u64, by_p0: u64, omega: u64, rho: u64) -> [u64; WITH_W] {
        let sign = (2 * by_p0).wrapping_sub(1);
        // An opened pos of h stands for pos = h xor rho.
        let at = |constants: usize, pos: u64| {
            self.left[constants].wrapping_add(pos.wrapping_mul(self.step[constants]))
        };
        let kappa = [at(0, rho), at(0, rho ^ 1)];
        let constant = [at(1, rho), at(1, rho ^ 1)];

        // D = m' - 2^(k-2) + shift[q].
        let carry = mask >> (self.entry_bits - 1) << self.entry_bits;
        let shift = [carry.wrapping_sub(mask), mask.wrapping_neg()];
        // An opened w of h stands for w = h xor omega.
        let tau =
            if self.opens_w { [omega.wrapping_mul(sign), (omega ^ 1).wrapping_mul(sign)] } else { [sign; 2] };
        let b = |w: usize, q: usize| tau[w].wrapping_mul(shift[q]);
        let c = |h: usize| {
            constant[h].wrapping_sub(kappa[h].wrapping_mul(r_in)).wrapping_add(r_out).wrapping_add(b(0, 0))
        };
        let past = |w: usize, q: usize| b(w, q).wrapping_sub(b(0, 0));
        if self.opens_w {
            [kappa[0], tau[0], tau[1], c(0), c(1), past(0, 1), past(1, 0), past(1, 1)]
        } else {
            [kappa[0], tau[0], c(0), c(1), past(0, 1), 0, 0, 0]
        }
    }
}

/// Subtracts a strip's shares from its ring elements.
struct Subtract<'a> {
    line: &'a DealtLine,
    secrets: Secrets<'a>,
    columns: &'a mut [[u64; STRIP]; WITH_W],
}

impl Vectorised for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { line, secrets, columns } = self;
        let n = secrets.r_in.len().min(STRIP);
        let Secrets { r_in, r_out, entry_masks, by_p0, choice_masks } = secrets;
        // One length for all: the loop has no other bounds to check.
        let (r_in, r_out, entry_masks) = (&r_in[..n], &r_out[..n], &entry_masks[..n]);
        let (by_p0, choice_masks) = (&by_p0[..n], &choice_masks[..n]);
        for i in 0..n {
            let (omega, rho) = (choice_masks[i] & 1, choice_masks[i] >> 1 & 1);
            let values = line.values(
                r_in[i],
                r_out[i],
                entry_masks[i].into(),
                by_p0[i].into(),
                omega.into(),
                rho.into(),
            );
            for (column, value) in columns.iter_mut().zip(values) {
                column[i] = value.wrapping_sub(column[i]);
            }
        }
    }
}

/// What has been opened of a tile before its last exchange.
pub(crate) struct Opened<'a> {
    /// The masked wire; what is made of it takes its place.
    pub(crate) wire: &'a mut [u64],
    /// m.
    pub(crate) entries: &'a [u16],
    /// w, in bit 0, and pos, in bit 1.
    pub(crate) choices: &'a [u16],
}

/// Opens the masked entries m: both parties' segments of `bits` bits, at most 16, added up.
pub(crate) fn open_entries(bits: u8, mine: &[u8], theirs: &[u8], elems: usize) -> Vec<u16> {
    let mut entries = vec![0; elems];
    pack::unpack_words(bits.into(), mine, theirs, &mut entries);
    entries
}

/// A party's side: a linear function of an element's ring elements whose coefficients are public.
pub(crate) struct OutputLine {
    opens_w: bool,
    /// kappa_0 + kappa_1, of which P0 takes the public part.
    slopes: u64,
    entry_bits: u8,
}

impl OutputLine {
    /// As [`DealtLine::new`], at `party`.
    pub(crate) fn new(curve: &Curve, opens_w: bool, party: Party) -> Self {
        let slopes = match party {
            Party::P0 => WIRE.encode(curve.left.slope + curve.right.slope),
            Party::P1 => 0,
        };
        Self { opens_w, slopes, entry_bits: curve.mask_bits() }
    }

    /// The number of C for an opened pos of 0 in a row.
    fn first_constant(&self) -> usize {
        if self.opens_w { 3 } else { 2 }
    }

    /// The message: this party's shares of y_hat, made from its shares of the ring elements in the field `id`. They also
    /// take the place of the wire.
    pub(crate) fn message(&self, key: &PartKey, id: FieldId, opened: Opened<'_>) -> Vec<u8> {
        let elems = opened.wire.len();
        let width = count(self.opens_w) * PACKED;
        let field = key.field(id);
        let mut scratch = Zeroizing::new(Vec::new());
        let mut output = OutputTile::new(self, key.level());
        let mut message = vec![0; elems * PACKED];
        let mut wraps = key.wraps().map(|wraps| wraps.into_rows(width, self.first_constant()));
        for range in strips(elems) {
            let rows = field.read(range.start * width..range.end * width, &mut scratch);
            let rows = wraps.as_mut().map_or(rows, |wraps| wraps.added(rows, range.clone()));
            let place = range.start * PACKED..range.end * PACKED;
            let opened = Opened {
                wire: &mut opened.wire[range.clone()],
                entries: &opened.entries[range.clone()],
                choices: &opened.choices[range],
            };
            output.share(rows, opened, &mut message[place]);
        }
        message
    }

    /// Which shares of a row count, for q, w and pos in bits 0, 1 and 2 of `choice`.
    fn picked(&self, choice: usize) -> Picked {
        let [q, w, pos] = [choice & 1, choice >> 1 & 1, choice >> 2];
        if self.opens_w {
            // B stands for [w, q] with w = q = 0 left out.
            [Some(0), Some(1 + w), Some(3 + pos), (2 * w + q).checked_sub(1).map(|b| 5 + b)]
        } else {
            // B stands for [q] with q = 0 left out.
            [Some(0), Some(1), Some(2 + pos), q.checked_sub(1).map(|b| 4 + b)]
        }
    }
}

/// Makes one strip's shares of y_hat after another's.
struct OutputTile<'a> {
    line: &'a OutputLine,
    level: Level,
    /// For wide registers, if they are used.
    picks: Option<Picks>,
    columns: Columns,
}

impl<'a> OutputTile<'a> {
    fn new(line: &'a OutputLine, level: Level) -> Self {
        let picks =
            || Picks::new(count(line.opens_w), line.slopes, line.entry_bits, |choice| line.picked(choice));
        let picks = if level == Level::Vaes { picks() } else { None };
        Self { line, level, picks, columns: Columns::default() }
    }

    /// The shares of the strip whose shares of ring elements are `rows`, also packed into `message`.
    fn share(&mut self, rows: &[u8], opened: Opened<'_>, message: &mut [u8]) {
        let Opened { wire, entries, choices } = opened;
        let columns = count(self.line.opens_w);
        let whole = if self.picks.is_some() { wire.len() / wide::GROUP * wide::GROUP } else { 0 };
        let (rows, rows_left) = rows.split_at(whole * columns * PACKED);
        let (wire, wire_left) = wire.split_at_mut(whole);
        let (entries, entries_left) = entries.split_at(whole);
        let (choices, choices_left) = choices.split_at(whole);
        let (message, message_left) = message.split_at_mut(whole * PACKED);
        if let Some(picks) = &self.picks {
            picks.output(wide::Strip { rows, wire, entries, choices, message });
        }
        if !wire_left.is_empty() {
            columns::split(rows_left, &mut self.columns.0[..columns]);
            let opened = Opened { wire: &mut *wire_left, entries: entries_left, choices: choices_left };
            self.level.dispatch(Output { line: self.line, opened, columns: &self.columns.0 });
            pack::pack(WIRE.bits().into(), wire_left, message_left);
        }
    }
}

/// The share of y_hat, modulo 2^64. The choices are public, but a selection is faster than a branch.
#[inline(always)]
fn output<const OPENS_W: bool>(
    slopes: u64,
    entry_bits: u8,
    shares: [u64; WITH_W],
    [x_hat, entry, w, pos]: [u64; 4],
) -> u64 {
    let quarter = 1u64 << (entry_bits - 2);
    let moved = (entry + quarter) & ((4 * quarter) - 1);
    let q = moved >> (entry_bits - 1);
    let select = |bit: u64, [off, on]: [u64; 2]| off ^ bit.wrapping_neg() & (off ^ on);

    let kappa = select(pos, [shares[0], slopes.wrapping_sub(shares[0])]);
    // B stands for [w, q] with w = q = 0 left out; without w for [q] with q = 0 left out.
    let (tau, c, b) = if OPENS_W {
        let b = select(w, [select(q, [0, shares[5]]), select(q, [shares[6], shares[7]])]);
        (select(w, [shares[1], shares[2]]), select(pos, [shares[3], shares[4]]), b)
    } else {
        (shares[1], select(pos, [shares[2], shares[3]]), select(q, [0, shares[4]]))
    };
    kappa
        .wrapping_mul(x_hat)
        .wrapping_add(tau.wrapping_mul(moved.wrapping_sub(quarter)))
        .wrapping_add(c)
        .wrapping_add(b)
}

/// Makes a strip's shares of y_hat.
struct Output<'a> {
    line: &'a OutputLine,
    opened: Opened<'a>,
    columns: &'a [[u64; STRIP]; WITH_W],
}

impl Output<'_> {
    #[inline(always)]
    fn run_line<const OPENS_W: bool>(self) {
        let Self { line, opened: Opened { wire, entries, choices }, columns } = self;
        let (slopes, entry_bits) = (line.slopes, line.entry_bits);
        let n = wire.len().min(STRIP);
        let (wire, entries, choices) = (&mut wire[..n], &entries[..n], &choices[..n]);
        for i in 0..n {
            let shares = std::array::from_fn(|column| columns[column][i]);
            let (w, pos) = (choices[i] & 1, choices[i] >> 1);
            let public = [wire[i], entries[i].into(), w.into(), pos.into()];
            wire[i] = output::<OPENS_W>(slopes, entry_bits, shares, public) & MASK;
        }
    }
}

impl Vectorised for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        if self.line.opens_w { self.run_line::<true>() } else { self.run_line::<false>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_agree_at_awkward_sizes() {
        let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        for (opens_w, entry_bits) in [(true, 12), (false, 13), (true, 16), (false, 3)] {
            for slopes in [0, 1, MASK] {
                for n in [1, 7, 8, 9, 100, STRIP] {
                    let line = OutputLine { opens_w, slopes, entry_bits };
                    let rows: Vec<u8> =
                        (0..n * count(opens_w) * PACKED).map(|i| (number(i) >> 13) as u8).collect();
                    let entries: Vec<u16> =
                        (0..n).map(|i| (number(i) >> 5 & ((1 << entry_bits) - 1)) as u16).collect();
                    let choices: Vec<u16> =
                        (0..n).map(|i| (number(i) >> 51) as u16 & 3 | u16::from(!opens_w)).collect();
                    let made = |level: Level| {
                        let mut wire: Vec<u64> = (0..n).map(|i| number(n + i) & MASK).collect();
                        let mut message = vec![0; n * PACKED];
                        let opened = Opened { wire: &mut wire, entries: &entries, choices: &choices };
                        OutputTile::new(&line, level).share(&rows, opened, &mut message);
                        (wire, message)
                    };
                    let expected = made(Level::Portable);
                    for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                        assert!(made(level) == expected, "{n} elements, {level}, w opened: {opens_w}");
                    }
                }
            }
        }
    }
}
