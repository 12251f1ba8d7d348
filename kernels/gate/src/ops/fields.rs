//! Keys whose fields are shares of numbers, made and read on the host.

use std::ops::Range;

use zeroize::Zeroizing;

use super::host::{DealHost, EvalHost};
use crate::{
    BackendError, DealJob, EvalJob, KeyBytes, Party, Ring, SecretBytes, Side, Source, Width, layout::FieldId,
    packing,
};

/// Makes both parties' keys of a part, field after field in the order of the layout. Each is [`Source::Shared`] and
/// [`Width::Packed`].
pub(crate) struct SharedFields<'a> {
    job: &'a DealJob<'a>,
    host: &'a dyn DealHost,
    explicit: Vec<u8>,
    next: FieldId,
}

impl<'a> SharedFields<'a> {
    pub(crate) fn new(job: &'a DealJob<'a>, host: &'a dyn DealHost) -> Self {
        let bytes = job.key_shape().tile_bytes(Side::Explicit, job.counts());
        Self { job, host, explicit: Vec::with_capacity(bytes), next: FieldId(0) }
    }

    /// Shares the next field's `values`, one for each entry.
    ///
    /// # Errors
    /// When the device of the streams fails.
    ///
    /// # Panics
    /// If there is no such field, or there are not as many values as it has entries.
    pub(crate) fn share(&mut self, mut values: Zeroizing<Vec<u64>>) -> Result<(), BackendError> {
        let field = self.job.key_shape().field(self.next);
        assert_eq!(field.entries(self.job.counts()), values.len(), "a value for each entry");
        let ring = ring(field.source, field.width);
        let stream =
            self.host.field(seeded(self.job), self.next, packing::packed_bytes(ring, values.len()))?;
        // The share minus the value, negated.
        values.iter_mut().for_each(|value| *value = value.wrapping_neg());
        packing::add_packed(ring, &stream, &mut values);
        values.iter_mut().for_each(|rest| *rest = rest.wrapping_neg());
        self.explicit.extend_from_slice(&Zeroizing::new(packing::pack(ring, &values)));
        self.next.0 += 1;
        Ok(())
    }

    /// Both keys.
    ///
    /// # Panics
    /// If fields are missing.
    pub(crate) fn finish(self) -> [SecretBytes; 2] {
        assert_eq!(usize::from(self.next.0), self.job.key_shape().fields().len(), "every field is shared");
        let explicit = SecretBytes::new(self.explicit);
        match self.job.side(Party::P0) {
            Side::Seeded => [SecretBytes::default(), explicit],
            Side::Explicit => [explicit, SecretBytes::default()],
        }
    }
}

/// The party that expands its side of the shared fields.
pub(crate) fn seeded(job: &DealJob<'_>) -> Party {
    match job.side(Party::P0) {
        Side::Seeded => Party::P0,
        Side::Explicit => Party::P1,
    }
}

/// The bytes of a field at a party.
pub(crate) enum FieldBytes {
    /// They came from the dealer, in the whole key.
    Delivered(KeyBytes, Range<usize>),
    /// They are the party's own stream.
    Expanded(Zeroizing<Vec<u8>>),
}

impl FieldBytes {
    /// The bytes themselves.
    pub(crate) fn expose(&self) -> &[u8] {
        match self {
            Self::Delivered(key, range) => &key.expose()[range.clone()],
            Self::Expanded(bytes) => bytes,
        }
    }
}

/// The bytes of field `id` at a party.
///
/// # Errors
/// When the device of the streams fails.
pub(crate) fn field_bytes(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
    id: FieldId,
) -> Result<FieldBytes, BackendError> {
    let (shape, counts) = (job.key_shape(), job.counts());
    Ok(match shape.range(id, job.side(), counts) {
        Some(range) => FieldBytes::Delivered(key.clone(), range),
        None => FieldBytes::Expanded(host.field(id, shape.field(id).bytes(counts))?),
    })
}

/// A party's shares of the numbers of field `id`, modulo 2^bits.
///
/// # Errors
/// When the device of the streams fails.
pub(crate) fn shares(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
    id: FieldId,
) -> Result<Zeroizing<Vec<u64>>, BackendError> {
    let (shape, counts) = (job.key_shape(), job.counts());
    let field = shape.field(id);
    let ring = ring(field.source, field.width);
    let mut shares = Zeroizing::new(vec![0; field.entries(counts)]);
    match shape.range(id, job.side(), counts) {
        Some(range) => packing::add_packed(ring, &key.expose()[range], &mut shares),
        None => packing::add_packed(ring, &host.field(id, field.bytes(counts))?, &mut shares),
    }
    Ok(shares)
}

fn ring(source: Source, width: Width) -> Ring {
    match (source, width) {
        (Source::Shared, Width::Packed(bits)) => Ring::new(bits),
        _ => unreachable!("fields of numbers are shared and packed"),
    }
}
