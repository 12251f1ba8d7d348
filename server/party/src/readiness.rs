//! Which segments' keys are in place at this party and at the peer, and whether they agree.

use suf_wire::BatchId;

use crate::Breach;

/// Both parties' hashes of the public parts of each segment's keys, in the order of the segments.
pub(crate) struct Readiness {
    batch: BatchId,
    segments: u16,
    /// This party's hashes, for the segments whose keys are stored.
    ours: Vec<[u8; 32]>,
    /// How many of them were sent to the peer.
    said: u16,
    /// The peer's hashes, for the segments that it has announced.
    theirs: Vec<[u8; 32]>,
}

impl Readiness {
    pub(crate) fn new(batch: BatchId, segments: u16) -> Self {
        Self { batch, segments, ours: Vec::new(), said: 0, theirs: Vec::new() }
    }

    /// The keys of `segment` are stored; false if it is not the next one.
    pub(crate) fn store(&mut self, segment: u16, common: [u8; 32]) -> Result<bool, Breach> {
        let is_next = usize::from(segment) == self.ours.len() && segment < self.segments;
        if is_next {
            self.ours.push(common);
            self.compare(segment)?;
        }
        Ok(is_next)
    }

    /// The peer is ready for `segment`; false if it is not the next one.
    pub(crate) fn hear(&mut self, segment: u16, common: [u8; 32]) -> Result<bool, Breach> {
        let is_next = usize::from(segment) == self.theirs.len() && segment < self.segments;
        if is_next {
            self.theirs.push(common);
            self.compare(segment)?;
        }
        Ok(is_next)
    }

    /// The next segment to announce to the peer, with this party's hash.
    pub(crate) fn say(&mut self) -> Option<(u16, [u8; 32])> {
        let segment = self.said;
        let common = *self.ours.get(usize::from(segment))?;
        self.said += 1;
        Some((segment, common))
    }

    /// Whether the keys of `segment` are stored.
    pub(crate) fn is_stored(&self, segment: u16) -> bool {
        usize::from(segment) < self.ours.len()
    }

    /// Whether this party has announced `segment`. Then the peer may send frames of it.
    pub(crate) fn is_said(&self, segment: u16) -> bool {
        segment < self.said
    }

    /// Whether the peer has announced `segment`.
    pub(crate) fn is_heard(&self, segment: u16) -> bool {
        usize::from(segment) < self.theirs.len()
    }

    /// Whether this party may send frames of `segment`.
    pub(crate) fn is_agreed(&self, segment: u16) -> bool {
        self.is_said(segment) && self.is_heard(segment)
    }

    /// Whether all segments are agreed.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_agreed(self.segments - 1)
    }

    /// Compares the hashes as soon as both are here, hence before the first exchange of the segment. The peer's hash
    /// comes with its readiness, this party's own with its keys.
    fn compare(&self, segment: u16) -> Result<(), Breach> {
        let at = usize::from(segment);
        match (self.ours.get(at), self.theirs.get(at)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Breach::UnequalKeys { batch: self.batch, segment })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_agreed_in_order_and_unequal_ones_are_seen_at_once() {
        let batch = BatchId([1; 16]);
        let mut readiness = Readiness::new(batch, 3);
        assert_eq!(readiness.hear(1, [1; 32]), Ok(false), "0 is next");
        assert_eq!(readiness.hear(0, [0; 32]), Ok(true));
        assert_eq!(readiness.hear(0, [0; 32]), Ok(false), "said before");
        assert_eq!((readiness.say(), readiness.is_agreed(0)), (None, false));
        assert_eq!(readiness.store(0, [0; 32]), Ok(true));
        assert_eq!(readiness.say(), Some((0, [0; 32])));
        assert!(readiness.is_agreed(0) && !readiness.is_complete());
        assert_eq!(readiness.store(1, [1; 32]), Ok(true));
        assert_eq!(readiness.hear(1, [2; 32]), Err(Breach::UnequalKeys { batch, segment: 1 }));
        assert_eq!(readiness.hear(2, [2; 32]), Ok(true));
        assert_eq!(readiness.store(2, [3; 32]), Err(Breach::UnequalKeys { batch, segment: 2 }));
        assert_eq!(readiness.hear(3, [3; 32]), Ok(false), "there are three");
    }
}
